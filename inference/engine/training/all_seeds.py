"""All seeds as one program: their parameters stacked, their steps one compiled graph.

Each seed keeps its program, random numbers, order of data and records.  Its parameters and buffers
become slices of stacked memory: whatever changes the stack changes them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.data.columns import Batch
from inference.engine.capture.captured import Captured, Columns
from inference.engine.capture.graph import Graph, Outputs
from inference.engine.capture.vectorised import vectorised
from inference.engine.gradient.plain import BETA, CapturedGradient, Measured, halves
from inference.engine.program.program import Program, defaults
from inference.engine.training.trainer import OptimizerFactory, Trainer
from inference.util import rng
from inference.util.errors import UserError
from inference.util.progress import Bar
from inference.util.rng import Stream

State = Callable[[], dict[str, Tensor]]


class Stacks:
    """Memory that the like tensors of all seeds are slices of."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Tensor, Sequence[Tensor]]] = {}

    def hold(self, parts: Sequence[Tensor]) -> Tensor:
        """(seeds, …), whose slices ``parts`` are from now on; or the tensor that all share."""
        first = parts[0]
        if len(parts) > 1 and all(part is first for part in parts):
            return first
        if id(first) not in self.known:
            whole = torch.stack([part.detach() for part in parts])
            for part, memory in zip(parts, whole.unbind(), strict=True):
                part.data = memory
            self.known[id(first)] = whole, parts
        return self.known[id(first)][0]

    def release(self) -> None:
        """Give each of the tensors memory of its own again."""
        for _, parts in self.known.values():
            for part in parts:
                part.data = part.data.clone()
        self.known.clear()


class CapturedAtOnce(Captured):
    """Every seed's captured function as one: columns (seeds, …) → outputs (seeds, …)."""

    def __init__(
        self,
        gradients: Sequence[CapturedGradient],
        streams: Sequence[Stream],
        stacks: Stacks,
        announce: Callable[[str], None],
    ) -> None:
        self.each = [gradient.captured for gradient in gradients]
        self.programs = [gradient.program for gradient in gradients]
        self.streams, self.stacks = streams, stacks
        super().__init__(
            self._in_turn,
            self.each[0].names,
            self._all_restored,
            announce=announce,
            setting=self.each[0].setting,
        )

    def graph(self, columns: Columns, share: bool) -> Graph:
        """The vectorised graph; its noise is each seed's, from the seed's own stream."""
        graphs = []
        for i, stream in enumerate(self.streams):
            with self.programs[i].scope():
                graph = self.each[i].graph(part(columns, i), share)
            draws = [functools.partial(drawn, stream, draw) for draw in graph.draws]
            graphs.append(replace(graph, draws=draws))
        return vectorised(graphs, list(columns.values()), self.stacks.hold)

    def _in_turn(self, columns: Columns) -> Outputs:
        """What the graph must give."""
        found = []
        for i, one in enumerate(self.each):
            with self.programs[i].scope(), self.streams[i]:
                found.append(one.function(part(columns, i)))
        outputs = list(zip(*found, strict=True))
        if any(parts[0] is not None for parts in halves(outputs[3:])[1]):
            raise UserError(
                "seeds_at_once cannot hold sparse gradients: make them dense (sparse=False), or "
                "fit seed by seed"
            )
        return [None if parts[0] is None else torch.stack(parts) for parts in outputs]

    def generators(self) -> Any:
        """Every seed's."""
        return [stream.states for stream in self.streams]

    def set_generators(self, state: Any) -> None:
        """Every seed's."""
        for stream, states in zip(self.streams, state, strict=True):
            stream.states = states

    @contextmanager
    def _all_restored(self) -> Iterator[State]:
        with ExitStack() as stack:
            pairs = zip(self.programs, self.each, strict=True)
            states = [stack.enter_context(scoped(p, one.restored())) for p, one in pairs]
            yield lambda: {
                f"{n} of seed {i}": t for i, s in enumerate(states) for n, t in s().items()
            }


@contextmanager
def scoped(program: Program, context: AbstractContextManager[State]) -> Iterator[State]:
    """The context, entered, asked and left within the program's scope, which is open only then."""
    with program.scope():
        state = context.__enter__()

    def within() -> dict[str, Tensor]:
        with program.scope():
            return state()

    yield within
    with program.scope():
        context.__exit__(None, None, None)


class GradientAtOnce:
    """The step's gradients of all seeds, in the ``.grad`` of stacked parameters.

    Attributes:
        parameters: (seeds, …) each, of which the seeds' own are slices.
        announce: is told what takes long.
    """

    announce: Callable[[str], None] = staticmethod(lambda note: None)

    def __init__(self, gradients: Sequence[CapturedGradient], streams: Sequence[Stream]) -> None:
        self.stacks, self.program = Stacks(), gradients[0].program
        parts = zip(*(gradient.parameters for gradient in gradients), strict=True)
        self.parameters = [self.stacks.hold(part).requires_grad_() for part in parts]
        tell = lambda note: self.announce(note)  # noqa: E731  (whoever listens by then)
        self.captured = CapturedAtOnce(gradients, streams, self.stacks, tell)

    def __call__(self, batch: Batch, beta: float = 1.0) -> Measured:
        """The measures, (seeds, …), of the seeds' batches."""
        columns, program = dict(batch), self.program
        if beta != 1:
            weight = torch.tensor(beta, device=program.device, dtype=program.dtype)
            columns[BETA] = weight.expand(len(next(iter(batch.values()))))
        loss, norm, terms, *found = self.captured(columns)
        gradients, _ = halves(found)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return Measured(loss, norm, terms)  # type: ignore[arg-type]


class AtOnce(Trainer):
    """Takes all seeds step by step; a checkpoint of it is one of them all.

    A seed that stops before the others keeps its best parameters, and records no more; its slices
    go on idly.

    Args:
        trainers: of each seed, just made, compiling.
        optimizer: of the stacked parameters; it must treat each element by itself, as Adam does.
    """

    gradient: GradientAtOnce  # type: ignore[assignment]

    def __init__(self, trainers: Sequence[Trainer], optimizer: OptimizerFactory) -> None:
        self.trainers = trainers
        self.plan, self.seed = trainers[0].plan, trainers[0].seed
        self.processes = trainers[0].processes
        self.streams = [self._stream(trainer) for trainer in trainers]
        gradients: Any = [trainer.gradient for trainer in trainers]
        self.gradient = GradientAtOnce(gradients, self.streams)
        self.optimizer = optimizer(self.gradient.parameters)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.step, self.finished = 0, False

    def run(self, bar: Bar, save: Callable[[], None], every: float) -> None:
        """Train to the end, as ever."""
        with defaults(self.plan.device, self.plan.dtype):
            super().run(bar, save, every)

    def release(self) -> None:
        """Give each seed's parameters and buffers memory of their own again."""
        self.gradient.stacks.release()

    def state_dict(self) -> dict[str, Any]:
        """Every seed's, and the optimiser's."""
        states = []
        for trainer, stream in zip(self.trainers, self.streams, strict=True):
            with trainer.program.scope(), stream:
                states.append(trainer.state_dict())
        return {
            "step": self.step,
            "finished": self.finished,
            "optimizer": self.optimizer.state_dict(),
            "seeds": states,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where ``state_dict`` left off, bit for bit."""
        for trainer, stream, its in zip(self.trainers, self.streams, state["seeds"], strict=True):
            with trainer.program.scope():
                trainer.load_state_dict(its)
            stream.keep()
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.finished = state["step"], state["finished"]

    @property
    def _going(self) -> list[tuple[int, Trainer]]:
        return [(i, trainer) for i, trainer in enumerate(self.trainers) if not trainer.finished]

    def _stream(self, trainer: Trainer) -> Stream:
        rng.seed(trainer.seed)
        return Stream(self.plan.device)

    @contextmanager
    def _within(self, trainer: Trainer) -> Iterator[None]:
        """The seed's scope, and its number before a complaint."""
        try:
            with trainer.program.scope():
                yield
        except UserError as error:
            raise UserError(f"seed {trainer.seed}: {error}") from error

    def _batches(self) -> Iterator[Batch]:
        """(seeds, rows, …) columns; a finished seed's are those of one that goes on."""
        _, other = self._going[0]
        if len({trainer.epoch for _, trainer in self._going}) > 1:
            return  # an interruption came between the seeds' evaluations
        sources = [other if trainer.finished else trainer for trainer in self.trainers]
        batches = [source._batches() for source in sources]
        for _ in other._remaining():
            pairs = zip(self.streams, batches, strict=True)
            yield beside([drawn(stream, batch.__next__) for stream, batch in pairs])

    def _refuse_nonfinite(self, loss: Tensor, norm: Tensor, batch: Batch) -> None:
        if loss.device.type == "cpu" and not (loss + norm).isfinite().all():
            for i, trainer in self._going:
                with self._within(trainer):
                    trainer._refuse_nonfinite(loss[i], norm[i], part(batch, i))

    def _record(self, loss: Tensor, norm: Tensor, terms: Tensor, batch: Batch, beta: float) -> None:
        rows = self.trainers[0].row(loss, norm, terms, beta).unbind()
        for i, trainer in self._going:
            trainer.step = self.step
            trainer.recorder.append(rows[i])
            if loss.device.type != "cpu" and self.step % trainer.recorder.block == 0:
                with self._within(trainer):
                    trainer._check_block(part(batch, i))

    def _end_epoch(self) -> None:
        least = min(trainer.epoch for _, trainer in self._going)
        for _, trainer in self._going:
            if trainer.epoch == least:
                with self._within(trainer):
                    trainer._end_epoch()
        self.finished = not self._going
        for trainer in self.trainers:
            if self.finished and trainer.best is not None:
                with trainer.program.scope():
                    trainer.program.load_state_dict(trainer.best)

    def _note(self) -> str:
        trainer = next((trainer for _, trainer in self._going), self.trainers[0])
        return f"seed {trainer.seed}: {trainer._note()}"


def drawn(stream: Stream, draw: Callable[[], Any]) -> Any:
    """A draw from the stream."""
    with stream:
        return draw()


def beside(batches: Sequence[Batch]) -> Batch:
    """Columns (seeds, rows, …) of the seeds' batches; one that all share is not copied.

    Raises:
        UserError: their shapes differ.
    """
    columns = {}
    for name, first in batches[0].items():
        parts = [batch[name] for batch in batches]
        if any(p.shape != first.shape for p in parts):
            raise UserError(
                f"column {name!r} has another shape in each seed's batch: pad it to one length, or "
                "leave out seeds_at_once"
            )
        shared = all(p is first for p in parts)
        columns[name] = first.expand(len(parts), *first.shape) if shared else torch.stack(parts)
    return columns


def part(columns: Mapping[str, Tensor], i: int) -> Batch:
    """The columns of the seed in place i."""
    return {name: column[i] for name, column in columns.items()}
