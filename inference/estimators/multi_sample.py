"""K-sample bounds ``log 1/K Σ_k w_k``, w = p(x, z)/q(z), and their gradients.

IWAE: Burda et al. 2016.  Doubly reparameterised: Tucker et al. 2019.  VIMCO: Mnih & Rezende 2016.
OVIS: Liévin et al. 2020.  Weights are per unit: an element of the plates that all coupled sites
share.  Where every latent is local, a unit is a datum with everything nested in it; a latent
outside of the data's plate couples all data; latents in separate plates that share nothing are
separate units.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from inference.estimators.base import Estimator
from inference.estimators.coupling import coupled, shared_plates
from inference.estimators.ledger import Choice, Ledger, keep_plates, read_ledger
from inference.estimators.programs import ModelAndGuide, TracePair, detached
from inference.util.errors import UserError
from inference.util.sites import base, distribution_name

INSTEAD = "VIMCO(num_particles=5)"


class MultiSample(Estimator):
    """The bound; subclasses define its gradient estimate.

    Where sites differ in their plates, one more run of both programs finds the coupled sites.

    Attributes:
        rescores: whether ``surrogate`` needs the draws scored again.

    Raises:
        UserError: a site outside of a subsampled plate is coupled with sites in it: the K-sample
            bound cannot be estimated without bias from a part of the elements.
    """

    compares_particles = True
    rescores: bool = False

    def estimate(
        self, programs: ModelAndGuide, draws: Sequence[TracePair]
    ) -> tuple[Tensor, Tensor]:
        """(bound, surrogate)."""
        ledger = fixed = read_ledger(draws)
        if self.rescores:
            ledger.refuse_factors(type(self).__name__, "VIMCO or IWAE")
            fixed = read_ledger([programs.run(detached(guide)) for _, guide in draws])
        sets = coupled(ledger, programs, draws[0][1])
        bound = surrogate = latent_free_bound(ledger, frozenset().union(*sets))
        for names in sets:
            units = Units.of(ledger.only(names), self.num_particles)
            again = replace(units, ledger=fixed.only(names))
            bound, surrogate = bound + units.bound(), surrogate + self.surrogate(units, again)
        return bound, surrogate

    @abstractmethod
    def surrogate(self, units: Units, fixed: Units) -> Tensor:
        """A scalar with the gradient of the units' bound.

        Args:
            units: the coupled sites, as drawn.
            fixed: the same draws held fixed, if the class ``rescores``: gradients reach
                parameters alone.
        """


class IWAE(MultiSample):
    """Pathwise gradient of the K-sample bound, ``Σ_k w̃_k ∇log w_k`` with w̃ = w/Σw.

    >>> import pyro, pyro.distributions as dist, torch
    >>> guide = lambda x: pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))  # the posterior
    >>> def model(x):
    ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...     pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> round(IWAE(5).loss(model, guide, torch.tensor(1.0)), 4)  # −log N(1; 0, √2)
    1.5155

    Unbiased; K model evaluations; reparameterised sites only.  Its signal-to-noise ratio for the
    guide falls as 1/√K (Rainforth et al. 2018): see ``DReG``.
    """

    def surrogate(self, units: Units, fixed: Units) -> Tensor:
        """The bound."""
        units.ledger.require_reparameterised("IWAE", INSTEAD)
        return units.bound()


class DReG(MultiSample):
    """Doubly reparameterised gradient: ``Σ_k w̃_k² ∂log w_k/∂z ∂z/∂φ`` for the guide.

    >>> import pyro, pyro.distributions as dist, torch
    >>> m = torch.tensor(0.0, requires_grad=True)
    >>> model = lambda: pyro.sample("z", dist.Normal(0.0, 1.0))
    >>> guide = lambda: pyro.sample("z", dist.Normal(m, 1.0))
    >>> loss = DReG(num_particles=5).differentiable_loss(model, guide)
    >>> torch.autograd.grad(loss, m)[0].abs() < 1e-6  # no noise where q is the posterior
    tensor(True)

    The model's own parameters keep ``Σ_k w̃_k ∇log p(x, z_k)``.  Unbiased, zero for the guide at
    q = p(z | x); 2K model evaluations; reparameterised sites only (Tucker et al. 2019, equation 8).
    Sites of a guide may depend on each other: what is left out is the score of all of them at fixed
    draws, so that the path through earlier draws stays, as Bauer & Mnih 2021 derive for
    hierarchies.  (Their second generalisation, of the prior's own score, is not here: it needs the
    inverse of the prior's reparameterisation.)
    """

    rescores = True

    def surrogate(self, units: Units, fixed: Units) -> Tensor:
        """w̃² on every path, corrected at fixed z to w̃ for the model and 0 for the guide."""
        units.ledger.require_reparameterised("DReG", INSTEAD)
        refuse_learned_delta(fixed.ledger)
        share = units.shares()
        log_p, log_q = fixed.log_weights(of_guide=False), -fixed.log_weights(of_guide=True)
        paths = share**2 * units.log_weights()
        corrected = paths + (share - share**2) * log_p + share**2 * log_q
        return units.total(corrected)


class VIMCO(MultiSample):
    """Score function for the K-sample bound; each particle's baseline is computed from the others.

    >>> import pyro, pyro.distributions as dist, torch
    >>> guide = lambda x: pyro.sample("b", dist.Bernoulli(0.5))
    >>> def model(x):
    ...     b = pyro.sample("b", dist.Bernoulli(0.5))
    ...     pyro.sample("x", dist.Bernoulli(0.25 + 0.5 * b), obs=x)
    >>> 0.28 < VIMCO(num_particles=8).loss(model, guide, torch.tensor(1.0)) < 1.39  # −log p(x|b)
    True

    ``Σ_k (L − L_{−k}) ∇log q(z_k) + Σ_k w̃_k ∇log w_k``, where L_{−k} replaces w_k by the geometric
    mean of the other weights.  Unbiased; any site (reparameterised ones by the path); K model
    evaluations.

    Raises:
        UserError: K = 1.
    """

    def __init__(self, num_particles: int = 2, **options: Any) -> None:
        if num_particles < 2:
            raise UserError(f"{type(self).__name__} needs num_particles of 2 or more")
        super().__init__(num_particles, **options)

    def surrogate(self, units: Units, fixed: Units) -> Tensor:
        """The bound, and the score of every draw that is not reparameterised."""
        signal = self.signal(units).detach()
        scores = [units.score(choice) for choice in units.ledger.non_reparameterised()]
        return units.bound() + sum(units.total(signal * score) for score in scores)

    def signal(self, units: Units) -> Tensor:
        """(K, units …) what each particle's score is weighed by."""
        return units.leave_one_out()


class OVIS(VIMCO):
    """VIMCO with the baseline that is the best for many particles, as far as γ says.

    >>> import pyro, pyro.distributions as dist, torch
    >>> guide = lambda x: pyro.sample("b", dist.Bernoulli(0.5))
    >>> def model(x):
    ...     b = pyro.sample("b", dist.Bernoulli(0.5))
    ...     pyro.sample("x", dist.Bernoulli(0.25 + 0.5 * b), obs=x)
    >>> 0.28 < OVIS(num_particles=8).loss(model, guide, torch.tensor(1.0)) < 1.39  # −log p(x|b)
    True

    ``Σ_k (L − w̃_k − c_k) ∇log q(z_k)`` for the guide, with the baseline ``c_k = L_{−k} − γ w̃_k +
    (1 − γ) log(1 − 1/K)`` of Liévin et al. 2020, equation 17; L_{−k} is the bound of the other
    K − 1 draws.  γ = 0 is for weights of which one has all (ESS near 1), and unbiased; γ = 1 for
    even ones (ESS far above 1): biased by ``γ E Σ_k w̃_k ∇log q(z_k)``, as c_k sees z_k.  Any site
    (reparameterised ones by the path); K model evaluations.

    Args:
        gamma: γ.

    Raises:
        UserError: K = 1, or γ is not in [0, 1].
    """

    unbiased = False

    def __init__(self, num_particles: int = 2, *, gamma: float = 1.0, **options: Any) -> None:
        super().__init__(num_particles, **options)
        if not 0 <= gamma <= 1:
            raise UserError(f"OVIS with gamma {gamma}: give a number from 0 to 1")
        self.gamma, self.unbiased = gamma, gamma == 0

    def signal(self, units: Units) -> Tensor:
        """L − c_k, as w̃_k ∇log q is in the gradient of L; L − L_{−k} is log (1 − 1/K)/(1 − w̃_k)."""
        even = math.log(1 - 1 / self.num_particles)
        return self.gamma * (even + units.shares()) - units.log_share_of_others()


def refuse_learned_delta(ledger: Ledger) -> None:
    """Raise a ``UserError`` for a Delta at a parameter, which has no score."""
    for choice in ledger.choices:
        if distribution_name(choice.fn) == "Delta" and base(choice.fn).v.requires_grad:
            raise UserError(
                f"DReG needs sites with a density, but site {choice.name!r} is a Delta at a "
                "parameter: use IWAE"
            )


@dataclass(frozen=True)
class Units:
    """Coupled sites, by unit: an element of the plates that all of them share.

    Attributes:
        ledger: terms and choices of these sites.
        plates: the shared plates.
        particles: K.
        scale: product of N/B over the shared plates.
    """

    ledger: Ledger
    plates: dict[str, int]
    particles: int
    scale: float

    @staticmethod
    def of(ledger: Ledger, particles: int) -> Units:
        """Find the shared plates."""
        shared = shared_plates(ledger)
        refuse_coupled_subsample(ledger, shared)
        scale = math.prod(share for plate, share in ledger.subsampled.items() if plate in shared)
        return Units(ledger, shared, particles, scale)

    def log_weights(self, of_guide: bool | None = None) -> Tensor:
        """(K, units …) log w of each unit, or its log p or −log q alone; not scaled."""
        terms = [t for t in self.ledger.terms if of_guide is None or t.of_guide == of_guide]
        if not terms:
            any_term = self.ledger.terms[0].value
            return any_term.new_zeros(self.particles, *(1,) * (any_term.dim() - 1))
        by_unit = (keep_plates(t.value, t.plates, self.plates) for t in terms)
        return torch.stack(torch.broadcast_tensors(*by_unit)).sum(0) / self.scale

    def bound(self) -> Tensor:
        """() Σ_units log 1/K Σ_k w_k, scaled."""
        return self.total(self.log_weights().logsumexp(0) - math.log(self.particles))

    def shares(self) -> Tensor:
        """(K, units …) w̃_k = w_k / Σ_j w_j; no gradient."""
        return self.log_weights().detach().softmax(0)

    def leave_one_out(self) -> Tensor:
        """(K, units …) L − L_{−k}."""
        log_w = self.log_weights()
        others = (log_w.sum(0, keepdim=True) - log_w) / (self.particles - 1)
        replaced = torch.where(
            _eye(log_w), others[None], log_w[:, None].expand(-1, len(log_w), *log_w.shape[1:])
        )
        return log_w.logsumexp(0) - replaced.logsumexp(0)

    def log_share_of_others(self) -> Tensor:
        """(K, units …) log(1 − w̃_k), also where w̃_k rounds to 1."""
        log_w = self.log_weights()
        others = log_w[None].masked_fill(_eye(log_w), -math.inf)
        return others.logsumexp(1) - log_w.logsumexp(0)

    def score(self, choice: Choice) -> Tensor:
        """(K, units …) log q of a site's draw."""
        return keep_plates(choice.score, choice.plates, self.plates)

    def total(self, value: Tensor) -> Tensor:
        """() a value (units …), summed and scaled."""
        return value.sum() * self.scale


def latent_free_bound(ledger: Ledger, moving: Container[str]) -> Tensor:
    """() the terms of all other sites, which depend on no latent and need no weights."""
    values = (t.value.sum() / len(t.value) for t in ledger.terms if t.name not in moving)
    return sum(values, ledger.zeros().sum())


def refuse_coupled_subsample(ledger: Ledger, shared: Container[str]) -> None:
    """Raise a ``UserError`` for a subsampled plate that the coupled sites do not share."""
    for term in ledger.terms:
        for plate in ledger.subsampled:
            if plate in term.plates and plate not in shared:
                outside = next(t.name for t in ledger.terms if plate not in t.plates)
                raise UserError(
                    f"plate {plate!r} shows a part of its elements, and site {outside!r} outside "
                    "of it couples them: a multi-sample bound needs all of them "
                    "(batch_size=None), or use LeaveOneOut(num_particles=4)"
                )


def _eye(log_w: Tensor) -> Tensor:
    """(K, K, 1 …) true where the replaced particle is the particle."""
    count = len(log_w)
    return torch.eye(count, dtype=torch.bool, device=log_w.device)[
        (..., *(None,) * (log_w.dim() - 1))
    ]
