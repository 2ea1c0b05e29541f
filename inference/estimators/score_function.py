"""Score-function gradients: ∇E_q f(z) = E_q [f(z) ∇log q(z)].

Glynn 1990, Williams 1992 (REINFORCE); NVIL's centring and scaling: Mnih & Gregor 2014; the average
of the other particles as a baseline: Mnih & Rezende 2016, Kool et al. 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from inference.estimators.baselines import MovingAverage
from inference.estimators.ledger import Choice, Ledger, per_particle
from inference.estimators.programs import ModelAndGuide, TracePair
from inference.estimators.sitewise import Part, Sitewise
from inference.util.errors import UserError


class ScoreFunction(Sitewise):
    """Score function for discrete draws (Pyro's ``non_reparam_nodes``), pathwise for the others.

    >>> import pyro, pyro.distributions as dist, torch
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(0.5))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=pyro.param("w", torch.tensor(0.0))))
    >>> estimator = ScoreFunction(baseline=MovingAverage(decay=0.9))
    >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), loss=estimator)
    >>> abs(svi.step())  # guide and model agree: the ELBO is 0
    0.0

    ``Σ_i (signal_i − b_i) ∇log q(z_i | z_<i)``; signal_i is the sum of the terms of the ELBO at or
    after site i, for each element of the site's plates.  Unbiased for any baseline b_i that has
    not seen z_i; any site; one model evaluation a particle.

    Args:
        baseline: module (site, signal, args, kwargs) → b_i; see ``inference.estimators.baselines``.
        normalise: divide the centred signal by max(1, its running standard deviation), as NVIL
            does: each site's gradient keeps its direction, not its length.
    """

    def __init__(
        self,
        num_particles: int = 1,
        *,
        baseline: nn.Module | None = None,
        normalise: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(num_particles, **options)
        self.baseline = baseline
        self.squares = MovingAverage() if normalise else None
        self.unbiased = not normalise

    def part(
        self,
        choice: Choice,
        ledger: Ledger,
        draws: Sequence[TracePair],
        programs: ModelAndGuide,
    ) -> Part:
        """(signal − baseline) ∇log q of the site."""
        centred, fit = self.centre(choice, ledger.learning_signals[choice.name], programs)
        return Part((per_particle(centred * choice.score) - fit).sum())

    def centre(
        self, choice: Choice, signal: Tensor, programs: ModelAndGuide
    ) -> tuple[Tensor, Tensor | float]:
        """(signal − baseline, detached; the baseline's squared error, a loss to minimise)."""
        if self.baseline is None:
            return self._normalised(choice, signal), 0.0
        guess = self.baseline(choice.name, signal, programs.args, programs.kwargs)
        error = per_particle((signal - guess).square()) if guess.requires_grad else 0.0
        return self._normalised(choice, signal - guess.detach()), error

    def _normalised(self, choice: Choice, centred: Tensor) -> Tensor:
        if self.squares is None:
            return centred
        variance: Tensor = self.squares(choice.name, centred.square(), (), {})
        return centred / variance.sqrt().clamp(min=1)


class LeaveOneOut(ScoreFunction):
    """Score function whose baseline is the mean signal of the other K − 1 particles (RLOO).

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.tensor(0.3, requires_grad=True)
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(logits=0.3))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=w))
    >>> loss = LeaveOneOut(num_particles=4).differentiable_loss(model, guide)
    >>> torch.autograd.grad(loss, w)[0].abs() < 1e-6  # no noise where q is the posterior
    tensor(True)

    ``Σ_k (signal_k − mean_{j≠k} signal_j) ∇log q(z_k) / K``.  Unbiased; any site; K model
    evaluations, which the pathwise part shares.

    Also exported as ``VarGrad`` (Richter et al. 2020): in the guide's parameters it is the gradient
    of ½ Var_r log q/p at r = q, the variance within K fixed draws, ``Σ_k (f_k − f̄)² / (K − 1)``.
    It is taken apart by site and plate: terms before a site are no part of its f, and a
    reparameterised site has its path.

    Raises:
        UserError: K = 1.
    """

    compares_particles = True

    def __init__(
        self,
        num_particles: int = 2,
        *,
        vectorize_particles: bool = False,
        max_plate_nesting: float = math.inf,
    ) -> None:
        if num_particles < 2:
            raise UserError("LeaveOneOut needs num_particles of 2 or more")
        super().__init__(
            num_particles,
            vectorize_particles=vectorize_particles,
            max_plate_nesting=max_plate_nesting,
        )

    def centre(
        self, choice: Choice, signal: Tensor, programs: ModelAndGuide
    ) -> tuple[Tensor, Tensor | float]:
        """(signal − mean of the others, 0)."""
        others = (signal.sum(0, keepdim=True) - signal) / (self.num_particles - 1)
        return signal - others, 0.0


VarGrad = LeaveOneOut
