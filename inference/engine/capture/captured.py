"""A function of named columns and scalars, captured and compiled for each shape of the columns."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inference.engine.capture.backends import Backend, Runner, inductor, interpreted
from inference.engine.capture.graph import Graph, Outputs, capture
from inference.engine.capture.noise import NoiseRecorder
from inference.engine.capture.sharing import ChangedInPlaceError
from inference.util import rng
from inference.util.errors import UserError

NamedTensors = Mapping[str, Tensor]
Function = Callable[..., Outputs]
Restored = Callable[[], AbstractContextManager[Callable[[], dict[str, Tensor]]]]
RELATIVE_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}
CANCELLED = 1e-2  # nats per datum, the least scale of a loss: log-probabilities cancel to rounding
MIXED = 5e-2  # for a graph that rounds to half precision
NUDGE = 2.0**-22  # relative: a last digit of single precision
MIXED_NUDGE = 2.0**-9  # what rounding to bfloat16 changes
NUDGES = 8  # by how many times what a nudge changes, rounding may
DRAWS = 5  # in the longest comparison
MAX_SHAPES = 16  # compiled shapes kept; the least recently used is dropped
MANY = 8  # compilations after which to warn


class Inputs(NamedTuple):
    """The arguments of a captured function."""

    columns: NamedTensors
    numbers: Sequence[Tensor] = ()

    def variables(self) -> list[Tensor]:
        """The graph's list of input tensors."""
        return [*self.columns.values(), *self.numbers]


class Difference(NamedTuple):
    """An output that differs between graph and function under the same noise."""

    name: str
    may_be_a_kink: bool  # a gradient in single precision, where values agree


class Captured:
    """Computes ``function`` by a compiled graph.

    For a new shape of the columns the function is captured, compiled, and checked: from the same
    random state, graph and function must agree.  The check is repeated at the second, fourth,
    eighth, … call, because programs may change.

    Args:
        function: (columns, *numbers) → tensors; it may run Pyro programs and take gradients.
            ``numbers`` are tensors () whose values change from call to call.
        names: of the outputs, for error messages.
        restored: a context manager that yields a function () → {name: tensor} of all state that a
            run changes, and restores that state on exit.
        backend: how a graph is compiled.
        announce: called with a message before each compilation.
        setting: () → what else a graph depends on (whether modules are training); a part of the
            key.
        parameters: () → tensors whose values the function reads, and ``restored`` restores.
    """

    def __init__(
        self,
        function: Function,
        names: Sequence[str],
        restored: Restored,
        backend: Backend = inductor,
        announce: Callable[[str], None] = lambda line: None,
        setting: Callable[[], object] = lambda: None,
        parameters: Callable[[], Iterable[Tensor]] = lambda: (),
    ) -> None:
        self.setting, self.parameters = setting, parameters
        self.function, self.names, self.restored = function, names, restored
        self.backend, self.announce = backend, announce
        self.ready: OrderedDict[object, Compiled] = OrderedDict()
        self.compilations = 0

    def __call__(self, columns: NamedTensors, *numbers: Tensor) -> Outputs:
        """The outputs; None where the function gives None.

        Raises:
            UserError: the function cannot be captured, or gives different results for the same
                noise.
        """
        inputs = Inputs(columns, numbers)
        key = signature(columns), len(numbers), self.setting()
        if key not in self.ready:
            with self._undisturbed():
                self.ready[key] = self._prepare(inputs)
            if len(self.ready) > MAX_SHAPES:
                self.ready.popitem(last=False)
        self.ready.move_to_end(key)
        ready = self.ready[key]
        ready.uses += 1
        if ready.uses > 1 and ready.uses.bit_count() == 1:  # check again at calls 2, 4, 8, …
            with self._undisturbed():
                refuse_differing(self._culprit(ready.graph, ready.run, inputs))
        return ready.run(inputs.variables(), ready.graph.draw_noise())

    def graph(self, inputs: Inputs, share: bool) -> Graph:
        """Capture the function's graph by running it.

        Raises:
            ChangedInPlaceError: a shared result is changed in place.
        """
        return capture(lambda: self.uncaptured(inputs), inputs.variables(), share)

    def uncaptured(self, inputs: Inputs) -> Outputs:
        """Call the function itself."""
        return self.function(inputs.columns, *inputs.numbers)

    def generators(self) -> Any:
        """The states of the generators that the noise is drawn from."""
        return rng.get_state()

    def set_generators(self, state: Any) -> None:
        """Restore ``generators``, to draw the same noise again."""
        rng.set_state(state)

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        before = self.generators()
        yield
        self.set_generators(before)

    def _prepare(self, inputs: Inputs) -> Compiled:
        shapes = ", ".join(f"{n} {tuple(c.shape)}" for n, c in inputs.columns.items())
        self.announce(f"compiling for {shapes} …")
        self.compilations += 1
        warn_of_shapes(self.compilations)
        with self.restored():
            self.uncaptured(inputs)  # lets the function make what it makes at its first call
        graph = self._capture(inputs)
        with self.restored():
            run = self.backend(graph, inputs.variables())
        refuse_differing(self._culprit(graph, run, inputs))
        return Compiled(graph, run)

    def _capture(self, inputs: Inputs) -> Graph:
        """Capture the graph and check it, interpreted, before the time-consuming compilation."""
        variables = inputs.variables()
        culprit = None
        for share in (True, False):  # not shared if it changes a shared result in place
            try:
                with self.restored():
                    graph = self.graph(inputs, share)
                with self.restored():
                    again = self.graph(inputs, share)
            except ChangedInPlaceError:
                continue
            if not alike(graph, again):  # exactly: slow counters change by less than rounding
                refuse_differing("two runs of the program")
            culprit = self._culprit(graph, interpreted(graph, variables), inputs)
            if culprit is None:
                return graph
        refuse_differing(culprit)
        raise AssertionError("without sharing, nothing shared is changed")

    def _culprit(self, graph: Graph, run: Runner, inputs: Inputs) -> str | None:
        return culprit(lambda: self._differing(graph, run, inputs))

    def _differing(self, graph: Graph, run: Runner, inputs: Inputs) -> Difference | None:
        """The first output or state in which graph and function differ, from one random state.

        Random operations left in the graph draw after all noise, so the function is given the same
        noise.
        """
        noise = graph.draw_noise() if graph.is_random else None
        before, others = self.generators(), rng.non_torch_states()
        wanted = self._under(noise, inputs)
        if rng.non_torch_states() != others:
            return Difference("random states of Python or NumPy", False)
        self.set_generators(before)
        with self.restored() as state:
            given = graph.draw_noise() if noise is None else noise
            found = self._named(run(inputs.variables(), given)) | state()
        least = MIXED if graph.is_mixed else 0.0
        difference = first_difference(found, wanted, least)
        if difference is None or not difference.may_be_a_kink:
            return difference
        self.set_generators(before)
        nudged = self._under(noise, inputs, MIXED_NUDGE if graph.is_mixed else NUDGE)
        return first_difference(found, wanted, least, nudged)

    def _under(
        self, noise: Sequence[Tensor] | None, inputs: Inputs, nudge: float = 0.0
    ) -> dict[str, Tensor]:
        """The function's outputs and the state after it; with all it reads nudged by a factor."""
        columns, numbers = inputs
        given = nullcontext() if noise is None else NoiseRecorder(iter(noise))
        with self.restored() as state, given:
            if nudge:
                columns = {name: nudged(c, nudge) for name, c in columns.items()}
                for parameter in self.parameters():
                    parameter.data.copy_(nudged(parameter.data, nudge))
            return self._named(self.uncaptured(Inputs(columns, numbers))) | state()

    def _named(self, outputs: Outputs) -> dict[str, Tensor]:
        pairs = zip(self.names, outputs, strict=True)
        return {name: output.clone() for name, output in pairs if output is not None}


@dataclass
class Compiled:
    """A graph, its runner, and how often it was called."""

    graph: Graph
    run: Runner
    uses: int = 0


def culprit(compare: Callable[[], Difference | None]) -> str | None:
    """The first difference; None after two agreements and at most one disagreement.

    A draw may, rarely, fall on the other side of a threshold; or, more often in single precision,
    of a kink (of relu, of bilinear interpolation), which changes gradients alone: one draw in which
    they agree is then enough.

    Args:
        compare: graph and function from one random state, another at each call.
    """
    seen = [compare() for _ in range(2)]
    if seen.count(None) == 1:
        seen.append(compare())
    if seen.count(None) == 2:
        return None
    while len(seen) < DRAWS and all(d and d.may_be_a_kink for d in seen):
        seen.append(compare())
    found = [d for d in seen if d]
    certain = [d for d in found if not d.may_be_a_kink]
    if certain or None not in seen:
        return f"captured and uncaptured {(certain or found)[0].name}"
    return None


def refuse_differing(differing: str | None) -> None:
    """Raise a ``UserError`` that names what differs between two runs under the same noise."""
    if differing is not None:
        raise UserError(
            f"{differing} differ under the same noise: the program "
            "depends on something that is neither a parameter, nor data, nor drawn by torch "
            "(Python's or NumPy's random numbers, a counter, an attribute that changes), or "
            "keeps something in another way than by changing a buffer in place; fit without "
            "compile"
        )


def warn_of_shapes(compilations: int) -> None:
    """Warn once batches have come in ``MANY`` shapes."""
    if compilations == MANY:
        warnings.warn(
            f"batches came in {MANY} shapes so far, and each costs a compilation: pad them "
            "to a few common lengths, or fit without compile",
            stacklevel=2,
        )


def alike(a: Graph, b: Graph) -> bool:
    """Whether two captures recorded the same operations with exactly equal constants."""
    pairs = zip(a.held, b.held, strict=False)
    constants = all(x is y or torch.equal(x, y) for x, y in pairs)
    return a.module.code == b.module.code and len(a.held) == len(b.held) and constants


def signature(columns: NamedTensors) -> object:
    """A key, equal for columns that one graph can serve."""
    kinds = [(n, c.shape, c.stride(), c.dtype, c.device) for n, c in columns.items()]
    places = [id(column) for column in columns.values()]
    return *kinds, *map(places.index, places)  # a tensor given twice makes another graph


def nudged(tensor: Tensor, by: float) -> Tensor:
    """Every second element, in memory, smaller by a factor; integers as they are."""
    if not tensor.is_floating_point():
        return tensor
    odd = torch.arange(tensor.numel(), device=tensor.device).view(tensor.shape) % 2
    return tensor * (1 - by * odd)


def first_difference(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    least: float = 0.0,
    nudged: Mapping[str, Tensor] | None = None,
) -> Difference | None:
    """The first tensor that differs by more than rounding; gradients come last.

    Rounding is relative to a tensor's largest element, or to a thousandth of the largest among the
    tensors of its kind (its name's first word): a gradient that is zero up to rounding has no scale
    of its own.  Nor has a loss that is a small rest of large terms.

    Args:
        found, wanted: by name.
        least: the smallest tolerance.
        nudged: as wanted, of arguments that differ in the last digit: how much rounding may be
            worth where a gradient is the rest of terms that cancel (advantages of almost equal
            branches).
    """
    if differing := found.keys() ^ wanted.keys():
        return Difference(min(differing), False)
    scales = {name: largest_of(w) for name, w in wanted.items()}
    largest: dict[str, float] = {}
    for name, scale in scales.items():
        largest[kind_of_output(name)] = max(largest.get(kind_of_output(name), 0.0), scale)
    for name, w in sorted(wanted.items(), key=lambda item: is_gradient(item[0])):
        if not w.is_floating_point() and not w.is_complex():
            if not torch.equal(found[name], w):
                return Difference(name, False)
            continue
        scale = scales[name] + 1e-3 * largest[kind_of_output(name)]
        scale += CANCELLED if is_of_log_probabilities(name) else 0.0
        tolerance = scale * max(RELATIVE_TOLERANCE.get(w.dtype, 0.0), least)
        if nudged is not None:
            tolerance += NUDGES * largest_of(nudged[name] - w)
        if not torch.allclose(found[name], w, rtol=0, atol=tolerance, equal_nan=True):
            return Difference(name, is_gradient(name) and w.dtype is not torch.float64)
    return None


def largest_of(tensor: Tensor) -> float:
    """The largest finite absolute value (0 if there is none)."""
    finite = tensor.double().abs().nan_to_num(0.0, 0.0, 0.0)
    return float(finite.max()) if finite.numel() else 0.0


def is_gradient(name: str) -> bool:
    """Whether an output is a gradient or its norm, which may jump where values do not."""
    return kind_of_output(name) in ("gradient", "norm")


def is_of_log_probabilities(name: str) -> bool:
    """Whether an output is a loss, its terms, or what an estimator remembers of them."""
    return name in ("loss", "terms") or name.startswith("state.estimator.")


def kind_of_output(name: str) -> str:
    """The first word of an output's name."""
    return name.split()[0]
