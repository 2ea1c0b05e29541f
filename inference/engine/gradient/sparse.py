"""Sparse gradients in a graph, which holds no sparse tensor: with respect to the rows looked up."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LOOK_UP = inspect.signature(F.embedding)
PLAIN = {"padding_idx": None, "max_norm": None, "scale_grad_by_freq": False}


class Fetched(TorchFunctionMode):
    """Within it, what ``embedding(…, sparse=True)`` looks up has gradients of its own.

    A parameter's gradient is their sum, each at the rows that it was looked up at.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function; rows that are looked up, as leaves."""
        kwargs = kwargs or {}
        if func is not F.embedding or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        asked = LOOK_UP.bind(*args, **kwargs).arguments
        weight = asked["weight"]
        plain = all(asked.get(name, usual) is usual for name, usual in PLAIN.items())
        if not (asked.get("sparse") and plain and weight.is_leaf and weight.requires_grad):
            return func(*args, **kwargs)
        rows = func(**asked | {"weight": weight.detach()}).requires_grad_()
        self.found[id(rows)] = weight, asked["input"], rows
        return rows

    def gradient(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """(row numbers (n,), gradients (n, …)), a row once for each time that it was looked up."""
        mine = [(i, r.grad) for w, i, r in self.found.values() if w is weight]
        pairs = [(i.flatten(), g.reshape(-1, g.shape[-1])) for i, g in mine if g is not None]
        if not pairs:
            return None
        numbers, gradients = zip(*pairs, strict=True)
        return torch.cat(numbers), torch.cat(gradients)


def sparse(numbers: Tensor, gradients: Tensor, parameter: Tensor) -> Tensor:
    """The parameter's gradient as a sparse tensor; rows that come twice are not added up yet."""
    return torch.sparse_coo_tensor(
        numbers[None], gradients, parameter.shape, check_invariants=False
    )
