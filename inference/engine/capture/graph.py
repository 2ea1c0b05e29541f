"""A function of tensors, run once and recorded as a graph of aten operations, without Python.

The function may run Pyro programs and take gradients; both are in the graph.  Tensors that it does
not take as arguments (parameters, buffers, a baseline's averages) stay where they are: the graph
reads them, and changes them in place, as the function does.
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
from inference.engine.capture.refusal import naming_the_culprit
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
        held: the tensors that the function uses without taking them as arguments.
    """

    module: GraphModule
    draws: Sequence[Draw]
    held: Sequence[Tensor]

    @property
    def is_mixed(self) -> bool:
        """Whether it rounds to half precision within (a compiler may round less often)."""
        halves = (torch.bfloat16, torch.float16)
        return any(node.kwargs.get("dtype") in halves for node in self.module.graph.nodes)

    @property
    def is_random(self) -> bool:
        """Whether random operations (rejection samplers) are left in it."""
        tags = (getattr(node.target, "tags", ()) for node in self.module.graph.nodes)
        return any(torch.Tag.nondeterministic_seeded in t for t in tags)

    def draw_noise(self) -> list[Tensor]:
        """New noise, drawn by the calls that the function makes."""
        return [draw() for draw in self.draws]


def capture(
    function: Callable[[], Outputs], variables: Sequence[Tensor], share: bool = True
) -> Graph:
    """Run ``function`` once and record it as a graph of ``variables``, noise and held tensors.

    The run has the function's effects: it draws, and changes tensors in place.

    Args:
        function: of no arguments; a Python function of ``variables`` that it closes over.
        variables: tensors whose values, not shapes, differ at the next call.
        share: compute repeated calls once; see ``inference.engine.capture.sharing``.

    Raises:
        UserError: the function branches on the value of a tensor; names the line.
        ChangedInPlaceError: a result shared by several calls was changed in place.
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

    traced.__annotations__ = {}  # else they are in the graph, which torch's cache cannot pickle
    with naming_the_culprit():
        module = traced_graph(traced)
    sharing.refuse_changes()
    return _with_inputs(module, variables, noise)


def traced_graph(
    function: Callable[..., Any], *arguments: Tensor, decompositions: Decompositions = None
) -> GraphModule:
    """The function of these arguments as aten operations.

    Each node records its result's shape, under one fake mode for all nodes.
    """
    with tracing(TracingContext(FakeTensorMode())):
        return make_fx(function, decompositions)(*arguments)


@contextlib.contextmanager
def capturable() -> Iterator[None]:
    """Turns off checks in Pyro and torch that read a tensor's values, and mkldnn.

    (mkldnn's recurrent networks have no aten operations to record.)
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
        """True for ``Tensor.all``, else the function."""
        return True if func is Tensor.all else func(*args, **(kwargs or {}))


def expectation(dice: Dice, costs: Any) -> Any:
    """``TraceEnum_ELBO``'s expected costs, without Pyro's selection of the possible values."""
    with AllPossible():
        return compute_expectation(dice, costs)


def expected_cost(probabilities: Tensor, costs: Tensor) -> Tensor:
    """() Σ probability × cost, where a probability of 0 counts as 0, also for an infinite cost.

    Both in the same dimensions.
    """
    return (probabilities * torch.where(probabilities > 0, costs, 0.0)).sum()


def _with_inputs(module: GraphModule, variables: Sequence[Tensor], noise: NoiseRecorder) -> Graph:
    """Turn constants of the graph into inputs."""
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
