"""The training loop, over one seed or over all of them at once.

Of several seeds, one that stops early keeps its best parameters and records no more; its slices of
the stacked parameters are still updated, without use.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from inference.data.columns import Batch
from inference.engine.gradient.protocol import Gradient, StepResult
from inference.engine.optimizers import Optimizable, adapter_of
from inference.engine.program import nonfinite
from inference.engine.program.program import defaults
from inference.engine.training.interrupts import checkpointing
from inference.engine.training.records.recorder import step_row
from inference.engine.training.seed_training import SeedTraining
from inference.util.errors import UserError
from inference.util.progress import Bar


def train(training: TrainingRun, bar: Bar, save: Callable[[], None], every: float) -> None:
    """Train to the end, calling ``save`` every ``every`` seconds and when interrupted."""
    bar.start = training.step
    training.gradient.announce = lambda note: bar.update(training.step, note)
    with training.opened(), checkpointing(save, every, training.processes) as save_if_due:
        while not training.finished:
            for batch in training.batches():
                take_step(training, batch)
                save_if_due()
                if bar.due:
                    bar.update(training.step, training.note())
            training.end_epoch()
        bar.update(training.step, training.note())


def take_step(training: TrainingRun, batch: Batch) -> None:
    """One step: rate, gradient, check, update, record."""
    progress = training.step / training.plan.steps
    beta = training.plan.anneal(progress)
    training.mover.scale_rates(training.plan.schedule(progress))
    result = training.gradient(batch, beta)
    training.refuse_nonfinite(result, batch)
    training.mover.follow(training.gradient.named)
    training.mover.step(lambda: training.datum_count(batch))
    training.record(result, batch, beta)


class TrainingRun:
    """Seeds that step together (one, or all of them), their gradient and their optimiser.

    Args:
        seeds: newly made.
        gradient: of the one seed, or of all seeds.
        optimizer: of the gradient's parameters; for several seeds, whose parameters are stacked, it
            must be elementwise, as Adam is.

    Attributes:
        stops: called after each epoch of a seed, in rank 0: whether the seed is to end there.
    """

    def __init__(
        self, seeds: Sequence[SeedTraining], gradient: Gradient, optimizer: Optimizable
    ) -> None:
        self.seeds, self.gradient = seeds, gradient
        self.plan, self.processes = seeds[0].plan, seeds[0].processes
        self.stops: Callable[[SeedTraining], bool] = lambda seed: False
        self.mover = adapter_of(optimizer, many=len(seeds) > 1)
        self.mover.follow(gradient.named)

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return max(seed.step for seed in self.seeds)

    @property
    def going(self) -> list[tuple[int, SeedTraining]]:
        """(position, seed) of the unfinished seeds."""
        return [(i, seed) for i, seed in enumerate(self.seeds) if not seed.finished]

    @property
    def finished(self) -> bool:
        """Whether all seeds are finished."""
        return not self.going

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keeps the scope of a single seed open; several seeds enter theirs when needed."""
        with ExitStack() as stack:
            stack.enter_context(defaults(self.plan.device, self.plan.dtype))
            if len(self.seeds) == 1:
                stack.enter_context(self.seeds[0].program.scope())
            yield

    def batches(self) -> Iterator[Batch]:
        """The remaining batches of the epoch; for several seeds, columns (seeds, rows, …).

        A finished seed gets the batch of an unfinished one.
        """
        (_, first), *_ = self.going
        if len({seed.epoch for _, seed in self.going}) > 1:
            return  # interrupted between the seeds' evaluations
        sources = [(first if seed.finished else seed).batches() for seed in self.seeds]
        for _ in first.remaining():
            yield together([self._drawn(i, source) for i, source in enumerate(sources)])

    def datum_count(self, batch: Batch) -> int:
        """How many data the bound stands for: N, or the rows of all processes' batches."""
        if size := self.seeds[0].program.plate_size:
            return size
        first = next(iter(batch.values()))
        rows = len(first if len(self.seeds) == 1 else first[0])
        return rows if self.processes.size == 1 else sum(self.processes.gather(rows))

    def refuse_nonfinite(self, result: StepResult, batch: Batch) -> None:
        """Raise a ``UserError`` on a NaN; on a GPU ``record`` does, as reading it would wait."""
        if result.loss.device.type == "cpu":
            sums = result.loss + result.norm
            if not math.isfinite(sums.sum().item()):
                for i, _ in self.going:
                    if not sums.reshape(-1)[i].isfinite():
                        self._raise_nonfinite(i, batch, self.step + 1)

    def record(self, result: StepResult, batch: Batch, beta: float) -> None:
        """Count the step, and record it for each seed."""
        rows = (
            step_row(self.seeds[0].recorder.names, result, beta)
            .reshape(len(self.seeds), -1)
            .unbind()
        )
        step = self.step + 1
        for i, seed in self.going:
            seed.record(step, rows[i])
            block_ends = result.loss.device.type != "cpu" and step % seed.recorder.block == 0
            if block_ends and not seed.recorder.last_is_finite("grad_norm"):
                self._raise_nonfinite(i, batch, step)

    def end_epoch(self) -> None:
        """Evaluate the seeds; at the end, restore each seed's best parameters."""
        least = min(seed.epoch for _, seed in self.going)
        for i, seed in self.going:
            if seed.epoch == least:
                with self._within(i):
                    seed.end_epoch()
                stop = self.processes.on_rank_zero(functools.partial(self.stops, seed))
                seed.finished = seed.finished or stop
        self.mover.end_epoch()
        if self.finished:
            for seed in self.seeds:
                with seed.within():
                    seed.restore_best()

    def note(self) -> str:
        """The note of the first unfinished seed."""
        seed = next((seed for _, seed in self.going), self.seeds[0])
        return note(seed) if len(self.seeds) == 1 else f"seed {seed.seed}: {note(seed)}"

    def identity(self) -> dict[str, Any]:
        """What identifies the program and the optimiser, for ``config.json``."""
        return {"sites": self.seeds[0].program.sites, "optimizer": self.mover.identity()}

    def state_dict(self) -> dict[str, Any]:
        """All state that a step changes; a collective call."""
        states = []
        for seed in self.seeds:
            with seed.within():
                states.append(seed.state_dict())
        optimizer = self.mover.state_dict()
        if len(states) == 1:
            return states[0] | {"optimizer": optimizer}
        return {"optimizer": optimizer, "seeds": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a ``state_dict``; training then continues bit for bit."""
        for seed, its in zip(self.seeds, state.get("seeds", [state]), strict=True):
            with seed.within():
                seed.load_state_dict(its)
        with self.opened():
            self.mover.load_state_dict(state["optimizer"], self.gradient.named)

    def _drawn(self, i: int, source: Iterator[Batch]) -> Batch:
        with self.seeds[i].stream:
            return next(source)

    @contextmanager
    def _within(self, i: int) -> Iterator[None]:
        """The seed's scope and random numbers; with several seeds, errors name the seed."""
        try:
            with self.seeds[i].within():
                yield
        except UserError as error:
            if len(self.seeds) == 1:
                raise
            raise UserError(f"seed {self.seeds[i].seed}: {error}") from error

    def _raise_nonfinite(self, i: int, batch: Batch, step: int) -> None:
        own = batch if len(self.seeds) == 1 else {name: c[i] for name, c in batch.items()}
        with self._within(i):
            raise nonfinite.explain(self.seeds[i].program, own, step, self.processes)


def note(seed: SeedTraining) -> str:
    """The current ELBO, for the progress bar."""
    rows = seed.recorder.fetch()
    if not len(rows):
        return ""
    held_out = "".join(f", held out {bound:.2f}" for _, bound, _ in seed.held_out.history[-1:])
    return f"ELBO {rows[-50:, 0].mean():.2f}{held_out}"


def together(batches: Sequence[Batch]) -> Batch:
    """Stack the seeds' batches to (seeds, rows, …); a column that all share is not copied.

    Raises:
        UserError: their shapes differ.
    """
    if len(batches) == 1:
        return batches[0]
    return {name: _beside(name, batches) for name in batches[0]}


def _beside(name: str, batches: Sequence[Mapping[str, Tensor]]) -> Tensor:
    parts = [batch[name] for batch in batches]
    if any(part.shape != parts[0].shape for part in parts):
        raise UserError(
            f"column {name!r} has another shape in each seed's batch: pad it to one length, or "
            "leave out seeds_at_once"
        )
    if all(part is parts[0] for part in parts):
        return parts[0].expand(len(parts), *parts[0].shape)
    return torch.stack(parts)
