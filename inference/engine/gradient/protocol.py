"""One step's gradient: what the training loop asks for, and what it is told.

Four ways give it, to the same numbers up to rounding: ``plain.PlainGradient`` runs estimator and
backward as they stand; ``captured.CapturedGradient`` runs a compiled graph of them;
``averaged.AveragedGradient`` averages those of several processes, each with its part of a batch;
``all_seeds.AllSeedsGradient`` takes those of all seeds in one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from inference.data.columns import Batch

Announce = Callable[[str], None]


class StepResult(NamedTuple):
    """What a step tells of itself; of S seeds at once, each has a leading dimension S.

    Attributes:
        loss: () nats per datum, of the objective.
        norm: () of the gradient, before it is clipped.
        terms: (names,) the ELBO's terms, nats per datum.
    """

    loss: Tensor
    norm: Tensor
    terms: Tensor


class Gradient(Protocol):
    """Puts the gradient of the loss, nats per datum, into every parameter's ``.grad``.

    Attributes:
        named: what an optimiser moves: the program's parameters, to which later batches may add,
            and the estimator's own (a neural baseline, a temperature).
        announce: is told what takes long.
    """

    announce: Announce

    @property
    def named(self) -> Mapping[str, Tensor]:
        """Living."""

    def __call__(self, batch: Batch, beta: float = 1.0) -> StepResult:
        """The gradient of this batch under the KL's weight β; what the step tells of itself."""


def silent(note: str) -> None:
    """Announce to nobody."""
