"""K-sample bounds ``log 1/K Σ_k w_k``, w = p(x, z)/q(z), and their gradients.

IWAE: Burda et al. 2016.  Doubly reparameterised: Tucker et al. 2019.  VIMCO: Mnih & Rezende 2016.
The bound is taken for each element of the plates that all latents share, so for each datum where
every latent is local.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from inference.errors import UserError
from inference.estimators.base import Estimator, Pair, Programs, held
from inference.estimators.ledger import Choice, Ledger, Term, read, within
from inference.sites import base, distribution_name

INSTEAD = "VIMCO(num_particles=5)"


class MultiSample(Estimator):
    """The bound itself; a child says how its gradient is taken.

    Raises:
        UserError: a latent is outside of a plate that shows only some of its elements: no
            K-sample bound of the whole can be estimated without bias from a part.
    """

    def estimate(self, programs: Programs, draws: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """(bound, surrogate)."""
        units = Units.of(read(draws), self.num_particles)
        return units.bound(), self.surrogate(units, programs, draws)

    @abstractmethod
    def surrogate(self, units: Units, programs: Programs, draws: Sequence[Pair]) -> Tensor:
        """A scalar with the gradient of the bound."""


class IWAE(MultiSample):
    """Pathwise gradient of the K-sample bound, ``Σ_k w̃_k ∇log w_k`` with w̃ = w/Σw.

    Unbiased; K model evaluations; reparameterised sites only.  Its signal-to-noise ratio for the
    guide falls as 1/√K (Rainforth et al. 2018): see ``DReG``.
    """

    def surrogate(self, units: Units, programs: Programs, draws: Sequence[Pair]) -> Tensor:
        """The bound."""
        units.ledger.refuse_jumps("IWAE", INSTEAD)
        return units.bound()


class DReG(MultiSample):
    """Doubly reparameterised gradient: ``Σ_k w̃_k² ∂log w_k/∂z ∂z/∂φ`` for the guide.

    The model's own parameters keep ``Σ_k w̃_k ∇log p(x, z_k)``.  Unbiased, zero for the guide at
    q = p(z | x); 2K model evaluations; reparameterised sites only (Tucker et al. 2019, equation 8).
    """

    def surrogate(self, units: Units, programs: Programs, draws: Sequence[Pair]) -> Tensor:
        """w̃² on every path, corrected at fixed z to w̃ for the model and 0 for the guide."""
        units.ledger.refuse_jumps("DReG", INSTEAD)
        share = units.shares()
        fixed = units.at_fixed_draws(programs, draws)
        refuse_points(fixed.ledger)
        log_p, log_q = fixed.log_weights(of_guide=False), -fixed.log_weights(of_guide=True)
        paths = share**2 * units.log_weights()
        corrected = paths + (share - share**2) * log_p + share**2 * log_q
        return units.total(corrected) + units.still()


class VIMCO(MultiSample):
    """Score function for the K-sample bound, each particle's baseline made of the others.

    ``Σ_k (L − L_{−k}) ∇log q(z_k) + Σ_k w̃_k ∇log w_k``, where L_{−k} puts the geometric mean of the
    other weights in the place of w_k.  Unbiased; any site (reparameterised ones take the path);
    K model evaluations.

    Raises:
        UserError: K = 1, where there is no other.
    """

    def __init__(self, num_particles: int = 2, **options: Any) -> None:
        if num_particles < 2:
            raise UserError("VIMCO needs num_particles of 2 or more: one has no other")
        super().__init__(num_particles, **options)

    def surrogate(self, units: Units, programs: Programs, draws: Sequence[Pair]) -> Tensor:
        """The bound, and the score of every draw that is not reparameterised."""
        signal = units.leave_one_out().detach()
        scores = [units.score(choice) for choice in units.ledger.jumps()]
        return units.bound() + sum(units.total(signal * score) for score in scores)


def refuse_points(ledger: Ledger) -> None:
    """Raise a ``UserError`` for a Delta at a parameter: it has no score to trade for a path."""
    for choice in ledger.choices:
        if distribution_name(choice.fn) == "Delta" and base(choice.fn).v.requires_grad:
            raise UserError(
                f"DReG needs sites with a density, but site {choice.name!r} is a Delta at a "
                "parameter: use IWAE"
            )


@dataclass(frozen=True)
class Units:
    """The ledger by unit: an element of the plates that all latents share.

    Attributes:
        ledger: terms and choices.
        plates: the shared plates.
        particles: K.
        scale: N/B of the shared plates together.
    """

    ledger: Ledger
    plates: dict[str, int]
    particles: int
    scale: float

    @staticmethod
    def of(ledger: Ledger, particles: int) -> Units:
        """Find the shared plates: those around every latent and every term after the first."""
        inside = [t.plates for t in ledger.terms if t.time >= 0]
        shared = (
            {n: d for n, d in inside[0].items() if all(n in p for p in inside)} if inside else {}
        )
        for plate in ledger.subsampled:
            if plate not in shared:
                raise UserError(
                    f"plate {plate!r} shows a part of its elements and a latent site is outside of "
                    "it: a multi-sample bound needs all of them (batch_size=None), or use "
                    "LeaveOneOut(num_particles=4)"
                )
        scale = math.prod(
            ledger.subsampled[plate] for plate in shared if plate in ledger.subsampled
        )
        return Units(ledger, shared, particles, scale)

    def at_fixed_draws(self, programs: Programs, draws: Sequence[Pair]) -> Units:
        """The same draws scored again, held fixed: gradients reach parameters alone."""
        again = read([programs.run(held(guide)) for _, guide in draws])
        return replace(self, ledger=again)

    def log_weights(self, of_guide: bool | None = None) -> Tensor:
        """(K, units …) log w of each unit, or its log p or −log q alone; not scaled."""
        terms = [t for t in self._moving() if of_guide is None or t.of_guide == of_guide]
        if not terms:
            return self.ledger.terms[0].value.new_zeros(self.particles)
        return torch.stack(torch.broadcast_tensors(*map(self._by_unit, terms))).sum(0) / self.scale

    def bound(self) -> Tensor:
        """() Σ_units log 1/K Σ_k w_k, scaled, and the terms that depend on no latent."""
        units = self.log_weights().logsumexp(0) - math.log(self.particles)
        return self.total(units) + self.still()

    def still(self) -> Tensor:
        """() the sum of the terms before the first latent, which depend on none."""
        values = (t.value.sum() / len(t.value) for t in self.ledger.terms if t.time < 0)
        return sum(values, self.ledger.terms[0].value.new_zeros(()))

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

    def score(self, choice: Choice) -> Tensor:
        """(K, units …) log q of a site's draw."""
        return within(choice.score, choice.plates, self.plates)

    def total(self, value: Tensor) -> Tensor:
        """() a value of units, summed and scaled."""
        return value.sum() * self.scale

    def _moving(self) -> list[Term]:
        return [t for t in self.ledger.terms if t.time >= 0]

    def _by_unit(self, term: Term) -> Tensor:
        return within(term.value, term.plates, self.plates)


def _eye(log_w: Tensor) -> Tensor:
    """(K, K, 1 …) true where the replaced particle is the particle."""
    count = len(log_w)
    return torch.eye(count, dtype=torch.bool, device=log_w.device)[
        (..., *(None,) * (log_w.dim() - 1))
    ]
