"""Mixed precision: networks in bfloat16, distributions in single precision.

Autocast leaves what a network says in bfloat16, of eight bits, and Pyro makes distributions of it.
log p of a class would then be logits − logsumexp(logits) with an error that grows with the logits,
and its gradient would no longer sum to zero over the classes: they drift, until log p is 0.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions import Distribution
from pyro.distributions.distribution import COERCIONS
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor, nn
from torch.distributions import Transform

HALVES = (torch.bfloat16, torch.float16)


@contextmanager
def mixed_precision(device: str) -> Iterator[None]:
    """A context for programs: matrix products in bfloat16; distributions, all of them, in float32.

    Args:
        device: the type of the tensors.
    """
    made = functools.partial(_made_in_single, device)
    COERCIONS.append(made)  # what Pyro asks when a distribution is made
    try:
        with torch.autocast(device, torch.bfloat16), SinglePrecision(device):
            yield
    finally:
        COERCIONS.remove(made)


def _made_in_single(device: str, cls: type, args: Any, kwargs: Any) -> Any:
    args, kwargs = single(args), {name: single(value) for name, value in kwargs.items()}
    with torch.autocast(device, enabled=False):
        return type.__call__(cls, *args, **kwargs)


class SinglePrecision(Messenger):
    """Lets draws and densities of sites be computed without autocast.

    Args:
        device: the type whose autocast is on.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def _pyro_sample(self, msg: Message) -> None:
        if isinstance(msg["fn"], Distribution):
            fn = copy.copy(msg["fn"])
            for name in ("sample", "rsample", "log_prob"):
                if hasattr(fn, name):
                    setattr(fn, name, functools.partial(_in_single, getattr(fn, name), self.device))
            msg["fn"] = fn


def _in_single(method: Callable[..., Any], device: str, *args: Any, **kwargs: Any) -> Any:
    with torch.autocast(device, enabled=False):
        return method(*args, **kwargs)


def single(x: Any) -> Any:
    """Half-precision tensors in float32, also within lists and transforms; all else as it is."""
    if isinstance(x, Tensor):
        return x.float() if x.dtype in HALVES else x
    if isinstance(x, list | tuple):
        return type(x)(single(part) for part in x)
    if not isinstance(x, Transform) or isinstance(x, nn.Module):
        return x
    other = copy.copy(x)
    other.__dict__.update({name: single(value) for name, value in vars(x).items()})
    return other
