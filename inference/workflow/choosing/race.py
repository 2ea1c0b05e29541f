"""Whose second moment × evaluations is least: all in turn on the same batches and noise.

Training at equal work follows E‖g‖² × cost (Geffner & Domke 2020, section 4).  The expectation is
over batches and draws.  After each block of rounds, those that are worse than the best beyond a
bootstrap interval leave, so that dear and noisy estimators cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from pyro.infer import ELBO

from inference.data.columns import Batch
from inference.engine.program.program import Program
from inference.util import rng
from inference.workflow.auditing.moments import gradient_of

BLOCK, ROUNDS = 16, 64
LEVEL = 0.99  # of intervals
RESAMPLES = 2000


class Ratio(NamedTuple):
    """Of two efforts, with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass
class Runner:
    """An estimator in the race.

    Attributes:
        estimator: its state adapted and fixed.
        evaluations: model runs for one gradient.
        squares: ‖g‖² of each round, g in nats per datum.
        same_as: an estimator whose gradients are the same numbers, if any.
    """

    estimator: ELBO
    evaluations: int
    squares: list[float] = field(default_factory=list)
    same_as: str = ""

    @property
    def effort(self) -> float:
        """E‖g‖² × evaluations."""
        return float(np.mean(self.squares)) * self.evaluations


def race(
    runners: Mapping[str, Runner],
    program: Program,
    batches: Iterator[Batch],
    precision: Callable[[], AbstractContextManager[None]],
) -> list[str]:
    """Measure until one is left, or ``ROUNDS`` are over; names of those left, least effort first.

    Args:
        runners: by name; get their ``squares``.
        program: at fixed parameters, within its scope.
        batches: one is taken each round.
        precision: the context of an estimator.
    """
    left = list(runners)
    for i, batch in zip(range(ROUNDS), batches, strict=False):
        for name in left:
            with rng.forked(i), precision():  # the same noise for all
                gradient = gradient_of(runners[name].estimator, program, batch)
            runners[name].squares.append(float(gradient.double().square().sum()))
        if i == 0:
            left = distinct(runners, left)
        if (i + 1) % BLOCK == 0:
            left = not_worse(runners, left)
        if len(left) == 1:
            break
    return sorted(left, key=lambda name: runners[name].effort)


def distinct(runners: Mapping[str, Runner], names: Sequence[str]) -> list[str]:
    """Those that do not repeat an earlier one: the same number at the same cost."""
    kept: list[str] = []
    for name in names:
        mine = runners[name]
        mine.same_as = next((k for k in kept if _equal(mine, runners[k])), "")
        kept += [] if mine.same_as else [name]
    return kept


def _equal(a: Runner, b: Runner) -> bool:
    return a.evaluations == b.evaluations and bool(np.isclose(a.squares, b.squares, 1e-6, 0).all())


def not_worse(runners: Mapping[str, Runner], names: Sequence[str]) -> list[str]:
    """Those whose effort is not above the least one's beyond the interval."""
    best = min(names, key=lambda name: runners[name].effort)
    return [n for n in names if n == best or not ratio(runners[n], runners[best]).low > 1]


def ratio(a: Runner, b: Runner) -> Ratio:
    """Effort of a / effort of b over the rounds that both ran, resampled together."""
    count = min(len(a.squares), len(b.squares))
    both = np.array([a.squares[:count], b.squares[:count]]) * [[a.evaluations], [b.evaluations]]
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = both[0].sum() / both[1].sum()
        resampled = both[0][draws].sum(1) / both[1][draws].sum(1)
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(float(value), float(low), float(high))
