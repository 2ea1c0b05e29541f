"""How modules are while somebody only looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy


@contextmanager
def evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Without graph, the modules as ``eval()`` leaves them, their buffers untouched."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad(), untouched(modules):
            yield
    finally:
        for part, training in before:
            part.training = training


@contextmanager
def untouched(modules: Sequence[nn.Module]) -> Iterator[None]:
    """At its end the buffers (a running mean, a codebook) are what they were before."""
    parts = [part for module in modules for part in module.modules()]
    living = [(part, name, b) for part in parts for name, b in part._buffers.items()]
    kept = [(at, n, b, b.clone()) for at, n, b in living if b is not None and not is_lazy(b)]
    try:
        yield
    finally:
        with torch.no_grad():
            for part, name, buffer, value in kept:
                part._buffers[name] = buffer.copy_(value)
