"""Randomness as an input: every draw becomes a deterministic function of noise drawn beforehand.

The noise is drawn by the calls that torch itself would make, in the program's order: a captured
program and the program itself make the same draws from the same state of the generator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
Draw = Callable[[], Tensor]
BY_SHAPE = {  # they use only the shape of their first argument
    aten.normal_.default,
    aten.uniform_.default,
    aten.exponential_.default,
    aten.cauchy_.default,
    aten.log_normal_.default,
    aten.geometric_.default,
    aten.bernoulli_.float,
    aten.rand_like.default,
    aten.randn_like.default,
}


class NoiseRecorder(TorchDispatchMode):
    """Within it, random operations are written as functions of noise.

    Draws that use no tensor's values (normal, uniform, a permutation) are the noise.  A normal draw
    is ``loc + scale ε``, a Bernoulli's ``u < p``, a categorical's ``argmax p / e`` with exponential
    e, as torch computes them.  Rejection samplers (gamma, Poisson) stay random operations.

    Args:
        given: noise to use, in order; None draws it.

    Attributes:
        draws: how each noise tensor is drawn.
        values: the noise tensors that were used.
        count: random operations seen so far.
    """

    def __init__(self, given: Iterator[Tensor] | None = None) -> None:
        super().__init__()
        self.given = given
        self.draws: list[Draw] = []
        self.values: list[Tensor] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, or its equivalent as a function of noise."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        self.count += 1
        answer = self._written(func, args, kwargs)
        return func(*args, **kwargs) if answer is None else answer

    def _written(self, func: Any, args: Any, kwargs: Any) -> Tensor | None:
        """The draw as a function of noise, or None."""
        if func in BY_SHAPE:
            noise = self._noise(filled_like(args[0], lambda x: func(x, *args[1:], **kwargs)))
            return args[0].copy_(noise) if func._schema.is_mutable else noise
        if func is aten.bernoulli.default:
            uniform = self._noise(filled_like(args[0], finely_uniform))
            return (uniform < args[0].to(uniform.dtype)).to(args[0].dtype)
        if func is aten.multinomial.default and args[1] == 1:
            race = self._noise(filled_like(args[0], torch.Tensor.exponential_))
            return (args[0] / race).argmax(-1, keepdim=True)
        if func.overloadpacket is aten.normal and any(isinstance(a, Tensor) for a in args):
            loc, scale = (*args, 1.0)[:2]  # Normal.sample
            return loc + scale * self._noise(filled_like(loc + scale, torch.Tensor.normal_))
        if not any(isinstance(argument, Tensor) for argument in args):
            return self._noise(functools.partial(func, *args, **kwargs))
        return None

    def _noise(self, draw: Draw) -> Tensor:
        with disable_proxy_modes_tracing():
            value = draw() if self.given is None else next(self.given)
        self.draws.append(draw)
        self.values.append(value)
        return value


def filled_like(tensor: Tensor, fill: Callable[[Tensor], Tensor]) -> Draw:
    """``fill`` applied to an uninitialised tensor like this one, which is not kept alive."""
    empty = functools.partial(
        torch.empty_strided,
        tensor.shape,
        tensor.stride(),
        dtype=tensor.dtype,
        device=tensor.device,
    )
    return lambda: fill(empty())


def finely_uniform(like: Tensor) -> Tensor:
    """U(0, 1) drawn in single precision at least: half precision is too coarse near 0."""
    return torch.rand_like(like, dtype=torch.promote_types(like.dtype, torch.float32))
