"""Estimators that are a sum over sites: this conditional moves, what follows it is held.

    ∇ Σ_z q(z) f(z) = E_q ∇f(z) + Σ_i E_q [f(z) ∇log q(z_i | z_<i)]

The first term is the pathwise part.  Each summand of the second is estimated by a part of its own,
so that unbiased parts of any kinds add up to an unbiased gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.estimators.base import Estimator
from inference.estimators.ledger import Choice, Ledger, read_ledger
from inference.estimators.programs import ModelAndGuide, TracePair


@dataclass(frozen=True)
class Part:
    """What a site contributes.

    Attributes:
        surrogate: a scalar, summed over particles, whose gradient is the site's.
        branches: further runs whose draws are those of the guide, too, so that their bounds and
            pathwise gradients may be averaged with those of the first runs.
    """

    surrogate: Tensor
    branches: Sequence[Ledger] = ()


class Sitewise(Estimator):
    """The mean bound and pathwise gradient of all runs, and a ``part`` for each other site."""

    def estimate(
        self, programs: ModelAndGuide, draws: Sequence[TracePair]
    ) -> tuple[Tensor, Tensor]:
        """(bound, surrogate)."""
        ledger = read_ledger(draws)
        moved = ledger.non_reparameterised()
        parts = [self.part(choice, ledger, draws, programs) for choice in moved]
        runs = [ledger, *(branch for part in parts for branch in part.branches)]
        bound = torch.cat([run.elbo() for run in runs]).mean()
        path = torch.cat([run.pathwise() for run in runs]).mean()
        return bound, path + sum(part.surrogate for part in parts) / len(ledger.elbo())

    @abstractmethod
    def part(
        self,
        choice: Choice,
        ledger: Ledger,
        draws: Sequence[TracePair],
        programs: ModelAndGuide,
    ) -> Part:
        """The part of a site that is not reparameterised.

        Args:
            choice: the site.
            ledger: of all particles.
            draws: what the ledger was read from.
            programs: for further runs.
        """


class OneByOne(Sitewise):
    """Parts that run the programs again from the draws of one run at a time."""

    def part(
        self,
        choice: Choice,
        ledger: Ledger,
        draws: Sequence[TracePair],
        programs: ModelAndGuide,
    ) -> Part:
        """The sum of ``one`` over the runs, with all their branches."""
        ledger.refuse_factors(type(self).__name__, "LeaveOneOut(num_particles=4)")
        parts = []
        for draw in draws:
            main = ledger if len(draws) == 1 else read_ledger([draw])
            parts.append(self.one(main.choices[choice.time], main, draw[1], programs))
        branches = [branch for part in parts for branch in part.branches]
        return Part(torch.stack([part.surrogate for part in parts]).sum(), branches)

    @abstractmethod
    def one(self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide) -> Part:
        """The part of a site in one run, of this ledger and this trace of the guide."""
