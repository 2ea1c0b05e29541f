"""Graphs of the same operations on different tensors, combined into one vectorised graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions
from torch.func import functionalize, vmap
from torch.fx import Interpreter

from inference.engine.capture.graph import Graph, Outputs, traced_graph
from inference.engine.capture.views import share_views
from inference.util.errors import UserError

aten = torch.ops.aten
REMEDY = "leave out seeds_at_once"


def vectorised(
    graphs: Sequence[Graph],
    variables: Sequence[Tensor],
    hold: Callable[[Sequence[Tensor]], Tensor],
) -> Graph:
    """One graph that computes all of the graphs.

    Args:
        graphs: S graphs of the same operations, each on its own tensors.
        variables: examples of the inputs, (S, …) each.
        hold: S held tensors → the stack (S, …) that they are slices of, or the one tensor that all
            share.

    Returns:
        A graph (variables (S, …); noise of the first graph, then of the second, …; stacks of held
        tensors) → outputs (S, …).

    Raises:
        UserError: the graphs differ, draw by rejection, or torch cannot vectorise an operation.
    """
    _refuse_random(graphs[0])
    if len({graph.module.code for graph in graphs}) > 1:
        raise UserError(f"the seeds' programs do not all do the same: {REMEDY}")
    parts = list(zip(*(graph.held for graph in graphs), strict=True))
    held = [hold(part) for part in parts]
    shared = [whole is part[0] for whole, part in zip(held, parts, strict=True)]
    draws = [draw for graph in graphs for draw in graph.draws]
    noise = [draw() for draw in draws]
    try:
        function = _over_all(graphs[0], [v[0] for v in variables], len(graphs), shared)
        module = traced_graph(function, *copied_elsewhere([*variables, *noise, *held]))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the seeds' steps cannot be one ({reason}): {REMEDY}") from error
    share_views(module.graph)
    module.recompile()
    return Graph(module, draws, held)


def _over_all(
    graph: Graph, example: Sequence[Tensor], count: int, shared: Sequence[bool]
) -> Callable[..., Outputs]:
    """The vectorised function of the combined graph's flat inputs."""
    once = _pure(graph, example)
    has = [output is not None for output in outputs(graph)]
    first, each = len(example), len(graph.draws)
    over = (*[0] * (first + each), *[None if alone else 0 for alone in shared])
    together = vmap(lambda *inputs: [o for o in once(*inputs) if o is not None], over)

    def function(*inputs: Tensor) -> Outputs:
        noise, held = inputs[first : first + count * each], inputs[first + count * each :]
        drawn = [torch.stack(noise[i::each]) for i in range(each)]
        found = iter(together(*inputs[:first], *drawn, *held))
        return [next(found).contiguous() if there else None for there in has]

    function.__annotations__ = {}  # else they are in the graph
    return function


def _pure(graph: Graph, example: Sequence[Tensor]) -> Callable[..., Outputs]:
    """The graph without changes in place but of inputs, by operations that ``vmap`` supports."""
    run = functionalize(OneByOne(graph.module).run, remove="mutations")
    inputs = copied_elsewhere([*example, *graph.draw_noise(), *graph.held])
    return traced_graph(run, *inputs, decompositions=decompositions())


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Decompositions of operations that ``vmap`` has no rule for."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    keys = ("FuncTorchBatched", "FuncTorchBatchedDecomposition")
    known = core_aten_decompositions()
    without = {op: known[op] for op in known if not any(has(op.name(), key) for key in keys)}
    return without | {
        aten.copy.default: copied,
        aten.slice_scatter.default: in_slice,
        aten.as_strided_scatter.default: strided,
    }


def copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What ``target`` holds after ``target.copy_(source)``."""
    return source.to(target).expand(target.shape).clone(memory_format=torch.contiguous_format)


def in_slice(
    target: Tensor,
    source: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """``slice_scatter`` (torch's rule fails where ``end`` is left out)."""
    places = torch.arange(target.shape[dim], device=target.device)[start:end:step]
    return target.index_copy(dim, places, source)


def strided(
    target: Tensor,
    source: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    offset: int | None = None,
) -> Tensor:
    """``as_strided_scatter`` into a contiguous ``target``."""
    everywhere = torch.arange(target.numel(), device=target.device)
    places = everywhere.as_strided(size, stride, offset).reshape(-1)
    changed = target.reshape(-1).index_copy(0, places, source.reshape(-1))
    return changed.view(target.shape)


class OneByOne(Interpreter):
    """Runs a graph; operations on lists of tensors (``_foreach_…``) tensor by tensor."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The result of an operation, or of each operation of a ``_foreach_`` one."""
        name = target._schema.name if isinstance(target, torch._ops.OpOverload) else ""
        if not name.startswith("aten::_foreach_"):
            return super().call_function(target, args, kwargs)
        single = getattr(aten, name.removeprefix("aten::_foreach_"))
        lists = [a if isinstance(a, list | tuple) else [a] * len(args[0]) for a in args]
        return [single(*each, **kwargs) for each in zip(*lists, strict=True)]


def copied_elsewhere(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies in new memory."""
    return [tensor.detach().clone() for tensor in tensors]


def outputs(graph: Graph) -> Sequence[Any]:
    """The graph's output nodes; None where an output is None."""
    return cast(Sequence[Any], graph.module.graph.output_node().args[0])


def _refuse_random(graph: Graph) -> None:
    for node in graph.module.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise UserError(
                f"{node.target} draws within a step by rejection, so the seeds cannot each have "
                f"noise of their own: {REMEDY}"
            )
