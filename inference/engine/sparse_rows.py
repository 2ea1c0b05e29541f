"""Sparse gradients of tables of embeddings, of which a batch looks up few rows.

``embedding(words, table, sparse=True)`` gives the table a sparse gradient: row numbers, and values
(rows, …).  A row that is looked up twice occurs twice, until the tensor is coalesced.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LOOK_UP = inspect.signature(F.embedding)
DEFAULT_OPTIONS = {"padding_idx": None, "max_norm": None, "scale_grad_by_freq": False}


def stored_values(gradient: Tensor) -> Tensor:
    """The stored entries: all of a dense gradient, or (rows, …) of a coalesced sparse one.

    They share the gradient's memory.
    """
    return gradient.values() if gradient.is_sparse else gradient


def stored_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(row numbers (n,), values (n, …)) of a gradient's rows, each row once."""
    if not gradient.is_sparse:
        return torch.arange(len(gradient), device=gradient.device), gradient
    whole = gradient.coalesce()
    return whole.indices()[0], whole.values()


def as_dense(gradient: Tensor) -> Tensor:
    """The gradient as a dense tensor."""
    return gradient.to_dense() if gradient.is_sparse else gradient


def as_sparse(numbers: Tensor, values: Tensor, parameter: Tensor) -> Tensor:
    """The parameter's gradient as a sparse tensor, not coalesced."""
    return torch.sparse_coo_tensor(numbers[None], values, parameter.shape, check_invariants=False)


class SparseLookups(TorchFunctionMode):
    """Makes rows that ``embedding(…, sparse=True)`` looks up leaves with their own gradients.

    A captured graph cannot hold sparse tensors.  It holds the gradients in the rows that were
    looked up; scattered to their row numbers and added up, they are the table's gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function; for a sparse lookup, its rows as leaves."""
        kwargs = kwargs or {}
        if func is not F.embedding or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        asked = LOOK_UP.bind(*args, **kwargs).arguments
        weight = asked["weight"]
        plain = all(asked.get(name, usual) is usual for name, usual in DEFAULT_OPTIONS.items())
        if not (asked.get("sparse") and plain and weight.is_leaf and weight.requires_grad):
            return func(*args, **kwargs)
        found = func(**asked | {"weight": weight.detach()}).requires_grad_()
        self.found[id(found)] = weight, asked["input"], found
        return found

    def gradient(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """(row numbers (n,), gradients (n, …)), once for each lookup of a row."""
        mine = [(i, r.grad) for w, i, r in self.found.values() if w is weight]
        pairs = [(i.flatten(), g.reshape(-1, g.shape[-1])) for i, g in mine if g is not None]
        if not pairs:
            return None
        numbers, gradients = zip(*pairs, strict=True)
        return torch.cat(numbers), torch.cat(gradients)
