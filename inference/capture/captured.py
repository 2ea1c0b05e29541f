"""A function of named columns, captured and compiled for each shape that they come in."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from inference import rng
from inference.capture.backends import Backend, Run, inductor, interpreted
from inference.capture.graph import Graph, Outputs, capture
from inference.capture.noise import Noise
from inference.errors import UserError

Columns = Mapping[str, Tensor]
Function = Callable[[Columns], Outputs]
Restored = Callable[[], AbstractContextManager[Callable[[], dict[str, Tensor]]]]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}
MIXED = 5e-2  # of a graph that rounds to half precision
KEPT = 16  # compiled shapes; the one that was not used for longest goes first
MANY = 8  # compilations after which a word is in place


class Captured:
    """Gives what ``function`` gives, at the speed of a compiled graph.

    For a new shape of the columns the function is captured, compiled, and checked: under the same
    noise, the graph must give what the function itself gives.

    Args:
        function: columns → tensors; it may run Pyro programs and take gradients.
        names: of the outputs, for messages.
        restored: a context that gives a function, which tells by name what a run changes, and at
            whose end all that is as it was before.
        backend: how a graph is compiled.
        announce: is told when a compilation begins.
    """

    def __init__(
        self,
        function: Function,
        names: Sequence[str],
        restored: Restored,
        backend: Backend = inductor,
        announce: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.function, self.names, self.restored = function, names, restored
        self.backend, self.announce = backend, announce
        self.ready: OrderedDict[object, tuple[Graph, Run]] = OrderedDict()
        self.compilations = 0

    def __call__(self, columns: Columns) -> Outputs:
        """The outputs; None where the function gives None.

        Raises:
            UserError: the function cannot be captured, or does not do the same each time.
        """
        signature = tuple((n, c.shape, c.dtype, c.device) for n, c in columns.items())
        if signature not in self.ready:
            with rng.forked():
                self.ready[signature] = self._prepare(columns)
            if len(self.ready) > KEPT:
                self.ready.popitem(last=False)
        self.ready.move_to_end(signature)
        graph, run = self.ready[signature]
        return run(list(columns.values()), graph.noise())

    def graph(self, columns: Columns, share: bool) -> Graph:
        """The function's graph, from a run of it."""
        return capture(lambda: self.function(columns), list(columns.values()), share)

    def _prepare(self, columns: Columns) -> tuple[Graph, Run]:
        shapes = ", ".join(f"{n} {tuple(c.shape)}" for n, c in columns.items())
        self.announce(f"compiling for {shapes} …")
        self._count()
        with self.restored():
            self.function(columns)  # whatever is made at the first call is made now
        graph = self._capture(columns)
        with self.restored():
            run = self.backend(graph, list(columns.values()))
        if culprit := self._culprit(graph, run, columns):
            raise UserError(
                f"the compiler's {culprit} is not that of the graph it compiled: a mistake in "
                "torch, or in its cache; fit without compile"
            )
        return graph, run

    def _capture(self, columns: Columns) -> Graph:
        """The graph, its operations checked one by one, before any time goes into compiling."""
        variables = list(columns.values())
        for share in (True, False):  # a rare program changes in place what could be shared
            with self.restored():
                graph = self.graph(columns, share)
            culprit = self._culprit(graph, interpreted(graph, variables), columns)
            if culprit is None:
                return graph
        raise UserError(
            f"captured and uncaptured {culprit} differ under the same noise: the program depends "
            "on something that is neither a parameter, nor data, nor drawn by torch (Python's or "
            "NumPy's random numbers, a counter), or keeps something in another way than by "
            "changing a buffer in place; fit without compile"
        )

    def _count(self) -> None:
        self.compilations += 1
        if self.compilations == MANY:
            warnings.warn(
                f"batches came in {MANY} shapes so far, and each costs a compilation: pad them "
                "to a few common lengths, or fit without compile",
                stacklevel=2,
            )

    def _culprit(self, graph: Graph, run: Run, columns: Columns) -> str | None:
        """None, after two agreements under different noise and at most one disagreement.

        In single precision a draw can fall on either side of its threshold once in a while.
        """
        differences = [self._differing(graph, run, columns) for _ in range(2)]
        if differences.count(None) == 1:
            differences.append(self._differing(graph, run, columns))
        return None if differences.count(None) == 2 else next(filter(None, differences))

    def _differing(self, graph: Graph, run: Run, columns: Columns) -> str | None:
        """The first output or state that is not the function's under the same noise."""
        noise, generators = graph.noise(), rng.get_state()
        with self.restored() as state, Noise(iter(noise)):
            wanted = self._named(self.function(columns)) | state()
        rng.set_state(generators)  # for what remains random
        with self.restored() as state:
            found = self._named(run(list(columns.values()), noise)) | state()
        return first_difference(found, wanted, MIXED if graph.is_mixed else 0.0)

    def _named(self, outputs: Outputs) -> dict[str, Tensor]:
        pairs = zip(self.names, outputs, strict=True)
        return {name: output.clone() for name, output in pairs if output is not None}


def first_difference(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], least: float = 0.0
) -> str | None:
    """The name of the first tensor that differs by more than rounding.

    Rounding is relative to a tensor's largest element, or to a thousandth of the largest among the
    tensors of its kind (its name's first word): a gradient that is zero but for rounding has no
    scale of its own.  ``least`` is the least tolerance.
    """
    if differing := found.keys() ^ wanted.keys():
        return min(differing)
    scales = {n: float(w.abs().max()) if w.numel() else 0.0 for n, w in wanted.items()}
    largest: dict[str, float] = {}
    for name, scale in scales.items():
        largest[kind(name)] = max(largest.get(kind(name), 0.0), scale)
    for name, w in wanted.items():
        scale = scales[name] + 1e-3 * largest[kind(name)]
        tolerance = scale * max(TOLERANCE.get(w.dtype, 0.0), least)
        if not torch.allclose(found[name], w, rtol=0, atol=tolerance, equal_nan=True):
            return name
    return None


def kind(name: str) -> str:
    """The first word of an output's name."""
    return name.split()[0]
