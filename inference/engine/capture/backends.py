"""How a graph is run: interpreted, or compiled by torch's inductor and, on a GPU, a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from inference.engine.capture.graph import Graph, Outputs
from inference.util.errors import UserError

aten = torch.ops.aten
Runner = Callable[[Sequence[Tensor], Sequence[Tensor]], Outputs]
Backend = Callable[[Graph, Sequence[Tensor]], Runner]
OPTIONS = {
    "fallback_random": True,
    "size_asserts": False,
    "max_fusion_buffer_group_pairwise_attempts": 8,  # default 64; the same kernels in less time
}


def interpreted(graph: Graph, variables: Sequence[Tensor]) -> Runner:
    """The graph's operations one by one: no compiler, no Pyro."""
    held = outside_autograd(graph.held)

    def run(variables: Sequence[Tensor], noise: Sequence[Tensor]) -> Outputs:
        with torch.no_grad():
            return graph.module(*variables, *noise, *held)

    return run


def inductor(graph: Graph, variables: Sequence[Tensor]) -> Runner:
    """Compiled by inductor; random operations left in the graph draw as torch does.

    Raises:
        UserError: there is no C++ compiler.
    """
    inputs: list[Any] = [*outside_autograd([*variables, *graph.draw_noise(), *graph.held])]
    held = outside_autograd(graph.held)
    reshape_views(graph.module)
    if graph.is_mixed:
        merge_equal_sums(graph.module)
    try:
        compiled = torch._inductor.standalone_compile(
            graph.module,
            inputs,
            dynamic_shapes="from_example_inputs",
            options={"config_patches": OPTIONS | {"emulate_precision_casts": graph.is_mixed}},
            donate_graph_module=True,
        )
    except torch._inductor.exc.InvalidCxxCompiler as error:
        raise UserError(
            "compiling needs a C++ compiler, and none is found: install g++ or clang, or fit "
            "without compile"
        ) from error

    def run(variables: Sequence[Tensor], noise: Sequence[Tensor]) -> Outputs:
        return compiled(*variables, *noise, *held)

    return run if inputs[0].device.type != "cuda" else as_cuda_graph(run, graph, variables)


def reshape_views(module: fx.GraphModule) -> None:
    """Let each view copy if it must: compiled, a tensor may lie in memory in another order."""
    for node in module.graph.find_nodes(op="call_function", target=aten.view.default):
        node.target = aten.reshape.default
    module.recompile()


def merge_equal_sums(module: fx.GraphModule) -> None:
    """One node for sums of the same tensor over the same dimensions.

    The gradients of two biases of a sum are such a pair.  In half precision inductor (torch 2.13)
    writes both conversions into one loop under one name, which no C++ compiler takes.
    """
    known: dict[object, fx.Node] = {}
    for node in module.graph.find_nodes(op="call_function", target=aten.sum.dim_IntList):
        first = known.setdefault((repr(node.args), repr(node.kwargs)), node)
        if first is not node:
            node.replace_all_uses_with(first)
            module.graph.erase_node(node)
    module.recompile()


def as_cuda_graph(run: Runner, graph: Graph, variables: Sequence[Tensor]) -> Runner:
    """Record ``run`` as a CUDA graph; recording runs it, with its changes in place.

    Its outputs are the same tensors each time: read them before the next run.
    """
    still = [tensor.clone() for tensor in (*variables, *graph.draw_noise())]
    places = still[: len(variables)], still[len(variables) :]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warm-up: kernels are chosen, memory is allocated
        for _ in range(3):
            run(*places)
    torch.cuda.current_stream().wait_stream(side)
    cuda_graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(cuda_graph):
        outputs = run(*places)

    def replayed(variables: Sequence[Tensor], noise: Sequence[Tensor]) -> Outputs:
        torch._foreach_copy_(still, [*variables, *noise])
        cuda_graph.replay()
        return outputs

    return replayed


def outside_autograd(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Detached tensors that share the given ones' memory."""
    return [tensor.detach() for tensor in tensors]
