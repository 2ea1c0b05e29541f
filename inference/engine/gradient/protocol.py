"""The protocol of one step's gradient.

Four classes implement it, with the same results up to rounding: ``plain.PlainGradient`` runs
estimator and backward eagerly; ``captured.CapturedGradient`` runs a compiled graph of them;
``averaged.AveragedGradient`` averages over processes, each with its part of a batch;
``all_seeds.AllSeedsGradient`` computes the gradients of all seeds in one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from inference.data.columns import Batch

Announce = Callable[[str], None]


class StepResult(NamedTuple):
    """The figures of one step; for S seeds at once, each has a leading dimension S.

    Attributes:
        loss: () the objective, nats per datum.
        norm: () of the gradient before clipping.
        terms: (names,) the ELBO's terms, nats per datum.
    """

    loss: Tensor
    norm: Tensor
    terms: Tensor


class Gradient(Protocol):
    """Puts the gradient of the loss, nats per datum, into every parameter's ``.grad``.

    Attributes:
        named: name → tensor that an optimiser updates: the program's parameters, to which later
            batches may add, and the estimator's own (a neural baseline, a temperature).
        announce: called with a message before slow work (a compilation).
    """

    announce: Announce

    @property
    def named(self) -> Mapping[str, Tensor]:
        """The tensors themselves, not copies."""

    def __call__(self, batch: Batch, beta: float = 1.0) -> StepResult:
        """Compute the gradient of this batch under the KL's weight β; the step's figures."""


def silent(note: str) -> None:
    """Ignore the message."""
