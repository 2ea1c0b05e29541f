"""A function of tensors, run once and written down: a graph of aten operations, nothing of Python.

The function may run Pyro programs and take gradients; both are in the graph.  Tensors that it
finds by itself (parameters, buffers, a baseline's averages) stay where they are: the graph reads
them, and changes them in place, as the function does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pyro
import torch
from pyro.infer.util import Dice
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from inference.engine.capture.noise import Draw, NoiseRecorder
from inference.engine.capture.refusal import refused
from inference.engine.capture.sharing import Sharing
from inference.engine.capture.values import ItemsAsTensors, NoValueReads
from inference.engine.capture.views import share_views

Outputs = Sequence[Tensor | None]
Decompositions = dict[Any, Callable[..., Any]] | None
compute_expectation = Dice.compute_expectation


@dataclass(frozen=True)
class Graph:
    """A captured function.

    Attributes:
        module: (variables, noise, held) → outputs.
        draws: how the noise is drawn, in order.
        held: the tensors that the function found by itself.
    """

    module: GraphModule
    draws: Sequence[Draw]
    held: Sequence[Tensor]

    @property
    def is_mixed(self) -> bool:
        """Whether it rounds to half precision on the way (a compiler may round less often)."""
        halves = (torch.bfloat16, torch.float16)
        return any(node.kwargs.get("dtype") in halves for node in self.module.graph.nodes)

    @property
    def is_random(self) -> bool:
        """Whether it draws for itself, by rejection, beside the noise that it is given."""
        tags = (getattr(node.target, "tags", ()) for node in self.module.graph.nodes)
        return any(torch.Tag.nondeterministic_seeded in t for t in tags)

    def noise(self) -> list[Tensor]:
        """New noise, by the calls that the function itself makes."""
        return [draw() for draw in self.draws]


def capture(
    function: Callable[[], Outputs], variables: Sequence[Tensor], share: bool = True
) -> Graph:
    """Run ``function`` once and write it down as a graph of ``variables``, noise and held tensors.

    The run is real: it draws, and changes what the function changes in place.

    Args:
        function: of no arguments; a Python function of ``variables`` that it closes over.
        variables: tensors whose values will be others at the next call; of the same shapes.
        share: compute once what it computes twice; see ``inference.engine.capture.sharing``.

    Raises:
        UserError: the function needs the value of a tensor to decide what to do; says where.
        ChangedInPlaceError: it changed in place what was computed once for two.
    """
    noise, values = NoiseRecorder(), NoValueReads()
    sharing = Sharing(noise)

    def traced() -> Outputs:
        with (
            capturable(),
            values,
            noise,
            ItemsAsTensors(values),
            sharing if share else contextlib.nullcontext(),
        ):
            return function()

    traced.__annotations__ = {}  # they would be in the graph, and torch's cache cannot keep them
    with refused():
        module = traced_graph(traced)
    sharing.refuse_changes()
    return _with_inputs(module, variables, noise)


def traced_graph(
    function: Callable[..., Any], *arguments: Tensor, decompositions: Decompositions = None
) -> GraphModule:
    """What the function does with the arguments, as aten operations.

    Each node notes its result's shape: one fake mode for all, where torch makes one for each.
    """
    with tracing(TracingContext(FakeTensorMode())):
        return make_fx(function, decompositions)(*arguments)


@contextlib.contextmanager
def capturable() -> Iterator[None]:
    """Pyro and torch without the checks that read a tensor's values, and without mkldnn.

    (Its recurrent networks have no operations that a graph could hold.)
    """
    replaced = mock.patch.object
    mkldnn = torch._C._get_mkldnn_enabled()
    try:
        torch._C._set_mkldnn_enabled(False)
        with (
            pyro.validation_enabled(False),
            replaced(pyro.util, "torch_isnan", return_value=False),
            replaced(torch.distributions.Distribution, "_validate_sample"),
            replaced(Dice, "compute_expectation", expectation),
            replaced(pyro.infer.util, "_fulldot", expected_cost),
        ):
            yield
    finally:
        torch._C._set_mkldnn_enabled(mkldnn)


class AllPossible(TorchFunctionMode):
    """Within it, ``mask.all()`` is true."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function, or the answer."""
        return True if func is Tensor.all else func(*args, **(kwargs or {}))


def expectation(dice: Dice, costs: Any) -> Any:
    """Of ``TraceEnum_ELBO``'s costs; Pyro looks which values are possible and leaves out others."""
    with AllPossible():
        return compute_expectation(dice, costs)


def expected_cost(probabilities: Tensor, costs: Tensor) -> Tensor:
    """() the sum of their products, where impossible values cost nothing, were it infinitely much.

    Both in the same dimensions.
    """
    return (probabilities * torch.where(probabilities > 0, costs, 0.0)).sum()


def _with_inputs(module: GraphModule, variables: Sequence[Tensor], noise: NoiseRecorder) -> Graph:
    """Constants of the graph become its inputs."""
    graph = module.graph
    constants = [node for node in graph.nodes if node.op == "get_attr"]
    found = {id(t): t for t in (getattr(module, str(node.target)) for node in constants)}
    known = {id(t) for t in (*variables, *noise.values)}
    held = [t for key, t in found.items() if key not in known]
    inputs = [*variables, *noise.values, *held]
    with graph.inserting_before(next(iter(graph.nodes))):
        places = {id(t): graph.placeholder(f"input_{i}") for i, t in enumerate(inputs)}
    for node in constants:
        node.replace_all_uses_with(places[id(getattr(module, str(node.target)))])
        graph.erase_node(node)
    share_views(graph)
    module.recompile()
    return Graph(module, noise.draws, held)
