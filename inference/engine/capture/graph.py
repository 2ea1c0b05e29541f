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
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from inference.engine.capture.noise import Draw, NoiseRecorder
from inference.engine.capture.refusal import DependsOnValuesError, naming_the_line
from inference.engine.capture.sharing import Sharing
from inference.engine.capture.views import share_views

Outputs = Sequence[Tensor | None]
Decompositions = dict[Any, Callable[..., Any]] | None
READING = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__}
PACK = torch.ops.aten._pack_padded_sequence.default  # its lengths are data, read on the host


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
    noise = NoiseRecorder()
    sharing = Sharing(noise)

    def traced() -> Outputs:
        with (
            capturable(),
            NoValueReads(),
            noise,
            ItemsAsTensors(),
            sharing if share else contextlib.nullcontext(),
        ):
            return function()

    traced.__annotations__ = {}  # else they are in the graph, which torch's cache cannot pickle
    with naming_the_line():
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
    nothing = {"torch_isnan": mock.patch.object(pyro.util, "torch_isnan", return_value=False)}
    nothing["sample"] = mock.patch.object(torch.distributions.Distribution, "_validate_sample")
    mkldnn = torch._C._get_mkldnn_enabled()
    try:
        torch._C._set_mkldnn_enabled(False)
        with pyro.validation_enabled(False), nothing["torch_isnan"], nothing["sample"]:
            yield
    finally:
        torch._C._set_mkldnn_enabled(mkldnn)


class ItemsAsTensors(TorchFunctionMode):
    """Within it, ``item`` gives a tensor, not a number, and ``one_hot`` does not check values.

    Reading a tensor's values in a way that torch's dispatcher does not see is an error.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function, or a variant that reads no values."""
        if func is torch.Tensor.item:
            return args[0].detach()
        if func in READING:
            raise DependsOnValuesError(func.__name__)
        if func is torch.nn.functional.one_hot:
            return one_hot(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class NoValueReads(TorchDispatchMode):
    """Makes operations that read values, or whose result's shape depends on values, errors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, unless it reads values."""
        reads = torch.Tag.data_dependent_output in func.tags or func is PACK
        if reads or (torch.Tag.dynamic_output_shape in func.tags and not _is_gather(func, args)):
            raise DependsOnValuesError(str(func))
        return func(*args, **(kwargs or {}))


def _is_gather(func: Any, args: Any) -> bool:
    """Whether it is indexing by integers, whose result has the shape of the indices."""
    masks = (torch.bool, torch.uint8)
    is_index = func is torch.ops.aten.index.Tensor
    return is_index and not any(i is not None and i.dtype in masks for i in args[1])


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """``torch.nn.functional.one_hot`` for a given number of classes, values not checked."""
    if num_classes < 0:
        num_classes = int(tensor.max()) + 1  # reads values: refused, with its line
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()


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
