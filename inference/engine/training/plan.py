"""The options of a training: duration, steps, device and precision."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from inference.engine.gradient.mixed import mixed_precision
from inference.engine.training.schedules import Schedule, constant
from inference.util.errors import UserError

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bf16-mixed": torch.float32}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of a training, the same for all seeds.

    Attributes:
        rows: number of training data.
        steps: optimiser steps in all; see ``total_steps``.
        batch_size: rows in a batch (None: all of them).
        device: of the program.
        precision: "float32", "float64", or "bf16-mixed": parameters and distributions in float32,
            networks under autocast to bfloat16.
        schedule: factor of the learning rate over progress in [0, 1).
        anneal: weight β of the KL over progress.
        clip_norm: largest global norm of the gradient (None: no clipping).
        patience: evaluations on held-out data without improvement before stopping.
        until: "converged": stop when the iterates have settled, and keep their mean.
        compile: capture the step as a graph and compile it.
        seeds_at_once: train all seeds as one vectorised program.

    Raises:
        UserError: the options contradict each other or do not fit the data.
    """

    rows: int
    steps: int
    batch_size: int | None
    device: torch.device
    precision: str = "float32"
    schedule: Schedule = constant
    anneal: Schedule = constant
    clip_norm: float | None = None
    patience: int | None = None
    until: str | None = None
    compile: bool = False
    seeds_at_once: bool = False

    def __post_init__(self) -> None:
        if self.precision not in DTYPES:
            raise UserError(f"precision {self.precision!r} is not one of {', '.join(DTYPES)}")
        if self.seeds_at_once and not self.compile:
            raise UserError("seeds_at_once vectorises the captured step: give compile, too")

        if self.until is not None:
            self._refuse_until()

    def _refuse_until(self) -> None:
        if self.until != "converged":
            raise UserError(f'until is {self.until!r}: give "converged", or leave it out')
        if self.patience is not None:
            raise UserError("until and patience both say when to stop: leave out one of the two")
        if self.schedule is not constant or self.annealed:
            raise UserError(
                "until watches iterates settle under one rate and one objective: leave out the "
                "schedule and the annealing"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return batches_per_epoch(self.rows, self.batch_size)

    @property
    def batch_sizes(self) -> tuple[int, int]:
        """Rows of an epoch's batches, and of its last one."""
        size = self.batch_size or self.rows
        return size, self.rows % size or size

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the parameters."""
        return DTYPES[self.precision]

    @property
    def annealed(self) -> bool:
        """Whether the objective differs from the ELBO at any time."""
        return self.anneal is not constant

    def autocast(self) -> AbstractContextManager:
        """The context that an estimator runs in."""
        if self.precision == "bf16-mixed":
            return mixed_precision(self.device.type)
        return nullcontext()

    def refuse_processes(self, count: int) -> None:
        """Raise a ``UserError`` if several processes cannot share each batch."""
        if count > 1 and self.seeds_at_once:
            raise UserError("seeds_at_once is for one process: let each have seeds of its own")
        size, smallest = self.batch_sizes
        if smallest < count:
            raise UserError(
                f"an epoch's {self.rows} rows in batches of {size} leave one of {smallest} "
                f"for {count} processes: choose a batch_size that leaves a row for each"
            )


def batches_per_epoch(rows: int, batch_size: int | None) -> int:
    """⌈rows / batch_size⌉."""
    return 1 if batch_size is None else math.ceil(rows / batch_size)


def total_steps(rows: int, batch_size: int | None, epochs: int | None, steps: int | None) -> int:
    """The number of optimiser steps in all.

    Raises:
        UserError: both or none of epochs and steps are given, or are below 1; or a batch exceeds
            the data.
    """
    if (epochs is None) == (steps is None):
        raise UserError("give either epochs or steps")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1, or None for all rows")
    if batch_size is not None and batch_size > rows:
        raise UserError(
            f"batch_size is {batch_size}, but the data have {rows} rows: give at most that"
        )
    total = steps if steps is not None else (epochs or 0) * batches_per_epoch(rows, batch_size)
    if total < 1:
        raise UserError("epochs or steps must be at least 1")
    return total
