"""The bound on held-out data while training, and the decision to stop there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from inference.data.columns import Batch, Columns, Streamed, slices
from inference.engine.processes import Processes
from inference.engine.program.checks.match import slips_refused
from inference.engine.program.objective import bound
from inference.engine.program.program import Program
from inference.util import rng
from inference.util.errors import UserError

EVALUATION_SEED = 20_140_501
LEAST_BATCHES = 8  # enough for a standard error over batches


def held_out_bounds(
    estimator: ELBO,
    program: Program,
    data: Columns | Streamed,
    batch_size: int | None,
    processes: Processes,
) -> tuple[Tensor, Tensor]:
    """Bounds of consecutive parts, nats per datum, and the parts' lengths; both (parts,).

    The noise is the same at every call, so that two calls can be compared batch by batch.  Several
    processes divide the parts among them.
    """
    size = len(data)
    fits = 4 * (batch_size or size)  # no autograd graph is kept
    chunk = max(1, min(fits, size // LEAST_BATCHES))
    parts = slices(size, chunk)
    own = parts[processes.rank :: processes.size]
    with rng.forked(EVALUATION_SEED + processes.rank), program.evaluation():
        found = [_bound(estimator, program, batch) for batch in data.batches(own)]
    everybodys = processes.gather(found)
    bounds = [everybodys[i % processes.size][i // processes.size] for i in range(len(parts))]
    lengths = [p.stop - p.start for p in parts]
    like = torch.empty(0, dtype=torch.float64, device="cpu")
    return like.new_tensor(bounds), like.new_tensor(lengths)


def _bound(estimator: ELBO, program: Program, batch: Batch) -> float:
    with slips_refused(program.model, program.guide, batch):
        return bound(estimator, program, batch)


def refuse_other_columns(what: str, data: Columns | Streamed, trained: Columns | Streamed) -> None:
    """Raise a ``UserError`` for a column that would broadcast where the training data's do not.

    Other lengths than the training data's are no fault: sequences have theirs.
    """
    if isinstance(data, Columns) and isinstance(trained, Columns):
        for name, column in data.tensors.items():
            shapes = column.shape[1:], trained.tensors[name].shape[1:]
            pairs = zip(*shapes, strict=False)
            if len(shapes[0]) != len(shapes[1]) or any((a == 1) != (b == 1) for a, b in pairs):
                raise UserError(_unlike(name, what, column, trained.tensors[name]))


@contextmanager
def naming_other_columns(
    what: str, data: Columns | Streamed, trained: Columns | Streamed
) -> Iterator[None]:
    """Turn an error into a ``UserError`` that names the first column unlike the training data's.

    Args:
        what: how to call the data.
        data: that a program runs on within.
        trained: the data that it was trained on.
    """
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as error:
        one = slice(0, 1)
        for name, column in data.rows(one).items():
            other = trained.rows(one)[name]
            if _kind(column) != _kind(other):
                said = str(error).splitlines()[0]
                raise UserError(f"{_unlike(name, what, column, other)} ({said})") from error
        raise


def _unlike(name: str, what: str, column: Tensor, other: Tensor) -> str:
    return (
        f"column {name!r} of {what} has rows of {_kind(column)}, and of the training data "
        f"{_kind(other)}: give both the same"
    )


def _kind(column: Tensor) -> str:
    return f"shape {tuple(column.shape[1:])}, {str(column.dtype).removeprefix('torch.')}"


def weighted_mean(values: Tensor, weights: Tensor) -> tuple[float, float]:
    """Weighted mean of (batches,) values and its standard error."""
    mean = float((weights * values).sum() / weights.sum())
    if len(values) < 2:
        return mean, math.nan
    spread = float(((values - mean) ** 2 * weights).sum() / weights.sum())
    return mean, math.sqrt(spread / (len(values) - 1))


@dataclass
class HeldOut:
    """The history of held-out bounds, the best so far, and whether to stop.

    A bound is better than the best if the mean of their differences, batch by batch under common
    noise, exceeds two standard errors; after ``patience`` evaluations without a better one,
    training stops.  Slow progress adds up, as each bound is compared with the best, not with the
    last.
    """

    patience: int | None
    history: list[tuple[int, float, float]] = field(default_factory=list)
    best: Tensor | None = None
    best_step: int = 0
    waited: int = 0

    def observe(self, step: int, bounds: Tensor, weights: Tensor) -> bool:
        """Record an evaluation; return whether it is the new best."""
        self.history.append((step, *weighted_mean(bounds, weights)))
        if self.best is not None:
            gain, error = weighted_mean(bounds - self.best, weights)
            if not gain > 2 * (0.0 if math.isnan(error) else error):
                self.waited += 1
                return False
        self.best, self.best_step, self.waited = bounds, step, 0
        return True

    @property
    def exhausted(self) -> bool:
        """Whether the last ``patience`` evaluations brought no better bound."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """All state that ``observe`` changes."""
        return {
            "history": list(self.history),
            "best": self.best,
            "best_step": self.best_step,
            "waited": self.waited,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a ``state_dict``."""
        for name, value in state.items():
            setattr(self, name, value)
