"""Merge equal views in a graph.

Autograd detaches and transposes often: a quarter of a graph's operations repeat a view that is
there already, and each costs compile time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

aten = torch.ops.aten


def share_views(graph: Graph) -> None:
    """Replace each view by an equal earlier one, and remove unused nodes.

    (Operations that may view or copy, as ``reshape``, do not occur in captured graphs.)
    """
    if any(torch.Tag.inplace_view in getattr(node.target, "tags", ()) for node in graph.nodes):
        return  # resizing one view would resize all
    known: dict[Any, Node] = {}
    for node in graph.nodes:
        if getattr(node.target, "is_view", False):
            node.replace_all_uses_with(_same(node) or known.setdefault(_key(node), node))
    graph.eliminate_dead_code()


def _same(view: Node) -> Node | None:
    """The input of a view that changes nothing: a detach, or a second transposition."""
    seen = view.args[0]
    if not isinstance(seen, Node):
        return None
    if view.target is aten.detach.default:
        return seen
    twice = view.target is seen.target is aten.t.default
    first = seen.args[0] if twice else None
    return first if isinstance(first, Node) else None


def _key(node: Node) -> Any:
    """A key, equal for equal views."""
    return node.target, node.args, tuple(node.kwargs.items())
