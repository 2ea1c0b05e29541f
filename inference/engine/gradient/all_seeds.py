"""The gradients of all seeds from one compiled graph, on stacked parameters.

Each seed keeps its program, random numbers, order of data and records.  Its parameters and buffers
become slices of stacked tensors: a change to the stack changes them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.data.columns import Batch
from inference.engine.capture.captured import Captured, Inputs, NamedTensors
from inference.engine.capture.graph import Graph, Outputs
from inference.engine.capture.vectorised import vectorised
from inference.engine.gradient.captured import CapturedGradient, StepOutputs, weight
from inference.engine.gradient.protocol import Announce, StepResult, silent
from inference.engine.program.program import Program
from inference.util.errors import UserError
from inference.util.rng import Stream

ReadState = Callable[[], dict[str, Tensor]]


class Stacks:
    """Stacked tensors, of which each seed's corresponding tensors are slices."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Tensor, Sequence[Tensor]]] = {}

    def hold(self, parts: Sequence[Tensor]) -> Tensor:
        """Stack ``parts`` into (seeds, …) and make them its slices; a shared tensor stays as it
        is."""
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
        """Copy each tensor into memory of its own."""
        for _, parts in self.known.values():
            for part in parts:
                part.data = part.data.clone()
        self.known.clear()


class CapturedSeeds(Captured):
    """The captured functions of all seeds as one: columns (seeds, …) → outputs (seeds, …)."""

    def __init__(
        self,
        gradients: Sequence[CapturedGradient],
        streams: Sequence[Stream],
        stacks: Stacks,
        announce: Announce,
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

    def graph(self, inputs: Inputs, share: bool) -> Graph:
        """The vectorised graph; the noise of each seed comes from the seed's own stream."""
        graphs = []
        for i, stream in enumerate(self.streams):
            with self.programs[i].scope():
                graph = self.each[i].graph(of_seed(inputs, i), share)
            draws = [functools.partial(drawn, stream, draw) for draw in graph.draws]
            graphs.append(replace(graph, draws=draws))
        return vectorised(graphs, inputs.variables(), self.stacks.hold)

    def _in_turn(self, columns: NamedTensors, *numbers: Tensor) -> Outputs:
        """The reference for the graph: the seeds' functions, one after another."""
        found = []
        for i, one in enumerate(self.each):
            with self.programs[i].scope(), self.streams[i]:
                found.append(one.uncaptured(of_seed(Inputs(columns, numbers), i)))
        if any(rows is not None for rows in StepOutputs.unflatten(found[0]).row_numbers):
            raise UserError(
                "seeds_at_once cannot hold sparse gradients: make them dense (sparse=False), or "
                "fit seed by seed"
            )
        outputs = zip(*found, strict=True)
        return [None if parts[0] is None else torch.stack(parts) for parts in outputs]

    def generators(self) -> Any:
        """Every seed's."""
        return [stream.states for stream in self.streams]

    def set_generators(self, state: Any) -> None:
        """Every seed's."""
        for stream, states in zip(self.streams, state, strict=True):
            stream.states = states

    @contextmanager
    def _all_restored(self) -> Iterator[ReadState]:
        with ExitStack() as stack:
            pairs = zip(self.programs, self.each, strict=True)
            states = [stack.enter_context(scoped(p, one.restored())) for p, one in pairs]
            yield lambda: {
                f"{n} of seed {i}": t for i, s in enumerate(states) for n, t in s().items()
            }


@contextmanager
def scoped(program: Program, context: AbstractContextManager[ReadState]) -> Iterator[ReadState]:
    """The context manager, entered, called and left within the program's scope."""
    with program.scope():
        state = context.__enter__()

    def within() -> dict[str, Tensor]:
        with program.scope():
            return state()

    yield within
    with program.scope():
        context.__exit__(None, None, None)


class AllSeedsGradient:
    """The gradients of all seeds, in the ``.grad`` of stacked parameters.

    Args:
        gradients: of each seed.
        streams: the seeds' streams of random numbers.

    Attributes:
        named: parameters, (seeds, …) each, of which the seeds' own are slices.
    """

    def __init__(self, gradients: Sequence[CapturedGradient], streams: Sequence[Stream]) -> None:
        self.stacks, self.device = Stacks(), gradients[0].program.device
        self.announce: Announce = silent
        parts = zip(*(gradient.parameters for gradient in gradients), strict=True)
        stacked = [self.stacks.hold(part).requires_grad_() for part in parts]
        self.named = dict(zip(gradients[0].named, stacked, strict=True))
        tell = lambda note: self.announce(note)  # noqa: E731  (looks ``announce`` up when called)
        self.captured = CapturedSeeds(gradients, streams, self.stacks, tell)

    def __call__(self, batch: Batch, beta: float = 1.0) -> StepResult:
        """One run of the graph; batch and result have a leading dimension of seeds."""
        seeds = len(next(iter(batch.values())))
        numbers = [number.expand(seeds) for number in weight(beta, self.device)]
        found = StepOutputs.unflatten(self.captured(batch, *numbers))
        for parameter, gradient in zip(self.named.values(), found.gradients, strict=True):
            parameter.grad = gradient
        assert found.norm is not None
        return StepResult(found.loss, found.norm, found.terms)

    def release(self) -> None:
        """Copy each seed's parameters and buffers into memory of their own."""
        self.stacks.release()


def drawn(stream: Stream, draw: Callable[[], Any]) -> Any:
    """The draw, made with the stream's generators."""
    with stream:
        return draw()


def of_seed(inputs: Inputs, i: int) -> Inputs:
    """The inputs of the seed at position i."""
    columns = {name: column[i] for name, column in inputs.columns.items()}
    return Inputs(columns, [number[i] for number in inputs.numbers])
