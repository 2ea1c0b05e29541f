"""A graph with each view once: the same memory seen in the same way is the same tensor.

Autograd detaches and transposes all the time: a quarter of a graph's operations see again what is
seen already, and a compiler takes its time for each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

aten = torch.ops.aten


def share_views(graph: Graph) -> None:
    """Replace each view by one like it that is there already; what nobody needs goes.

    (Of what is a view at times and a copy at others, as ``reshape``, no capture has any.)
    """
    if any(torch.Tag.inplace_view in getattr(node.target, "tags", ()) for node in graph.nodes):
        return  # it would change the shape of all that share a view
    known: dict[Any, Node] = {}
    for node in graph.nodes:
        if getattr(node.target, "is_view", False):
            node.replace_all_uses_with(_same(node) or known.setdefault(_key(node), node))
    graph.eliminate_dead_code()


def _same(view: Node) -> Node | None:
    """What is seen as it was: detached, or transposed back."""
    seen = view.args[0]
    if not isinstance(seen, Node):
        return None
    if view.target is aten.detach.default:
        return seen
    twice = view.target is seen.target is aten.t.default
    first = seen.args[0] if twice else None
    return first if isinstance(first, Node) else None


def _key(node: Node) -> Any:
    """Equal for equal views."""
    return node.target, node.args, tuple(node.kwargs.items())
