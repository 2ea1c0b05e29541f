"""Gradients at draws too rare to occur in a sample: one random number at a time is replaced.

A value of probability 10⁻⁴ under q may carry all of a gradient's mean and occur in none of 500
draws.  Here it is inserted: a torch function mode intercepts the functions that draw
(``bernoulli``, ``multinomial``, uniform, normal, exponential and Poisson numbers), so that this
works for every program and estimator.  Gamma and Dirichlet numbers are not replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

RARE_COUNT = 30  # a value is rare if its expected count in all draws is below this
UNSEEN = 1e-3  # probability that any of all draws is beyond a rare continuous number
MAX_RARE_DRAWS = 300  # rare draws to try; of more, a random subset
Candidates = tuple[Tensor, Tensor]  # indices in the flattened draw, and the rare values there


class MakeRare(TorchFunctionMode):
    """Inserts the ``target``-th of all rare values that could be drawn, and counts them.

    Args:
        samples: number of gradients in the audit.
        target: its index, in the order of drawing; None changes nothing.

    Attributes:
        count: number of rare values so far.
    """

    def __init__(self, samples: int, target: int | None = None) -> None:
        super().__init__()
        self.samples, self.target, self.count = samples, target, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        drawn = func(*args, **(kwargs or {}))
        if (rare := RARE.get(func)) is None or not isinstance(drawn, Tensor):
            return drawn
        with torch._C.DisableTorchFunction(), torch.no_grad():
            places, values = rare(drawn, args, kwargs or {}, self.samples)
            start, self.count = self.count, self.count + len(places)
            if self.target is None or not start <= self.target < self.count:
                return drawn
            chosen = self.target - start
            kept = drawn if func in IN_PLACE else drawn.clone()
            kept.view(-1)[places[chosen]] = values[chosen].to(kept)
            return kept


def with_rare_draws(run: Callable[[], Tensor], samples: int) -> Iterator[Tensor]:
    """Results of ``run`` with one rare draw in each, for at most ``MAX_RARE_DRAWS`` rare draws.

    Draws at which the program fails are left out (a large count may be out of a table's range).
    """
    with MakeRare(samples) as counted:
        run()
    order = torch.randperm(counted.count, device="cpu")[: min(MAX_RARE_DRAWS, samples)]
    for target in order.tolist():
        found = []
        with suppress(RuntimeError, ValueError, IndexError), MakeRare(samples, target):
            found.append(run())
        yield from found


def _of_bernoulli(drawn: Tensor, args: Any, kwargs: Any, samples: int) -> Candidates:
    p = torch.as_tensor(args[0], dtype=torch.float64).expand(drawn.shape).flatten()
    ones, zeros = _is_rare(p, samples), _is_rare(1 - p, samples)
    places = torch.cat([ones.nonzero()[:, 0], zeros.nonzero()[:, 0]])
    return places, torch.cat([torch.ones(int(ones.sum())), torch.zeros(int(zeros.sum()))])


def _of_multinomial(drawn: Tensor, args: Any, kwargs: Any, samples: int) -> Candidates:
    p = args[0].double()
    p = (p / p.sum(-1, keepdim=True)).reshape(-1, p.shape[-1])
    rows, values = _is_rare(p, samples).nonzero(as_tuple=True)
    return rows * drawn.shape[-1], values


def _of_uniform(drawn: Tensor, args: Any, kwargs: Any, samples: int) -> Candidates:
    tail = float(torch.finfo(drawn.dtype).eps)  # thresholds may be that close to 0 or 1
    return _everywhere(drawn, tail, 1 - tail)


def _of_normal(drawn: Tensor, args: Any, kwargs: Any, samples: int) -> Candidates:
    far = -NormalDist().inv_cdf(UNSEEN / (2 * samples))
    return _everywhere(drawn, -far, far)


def _of_normal_about(drawn: Tensor, args: Any, kwargs: Any, samples: int) -> Candidates:
    """``torch.normal(mean, std)``."""
    places, standard = _of_normal(drawn, args, kwargs, samples)
    mean = kwargs.get("mean", args[0] if args else 0.0)
    std = kwargs.get("std", args[1] if len(args) > 1 else 1.0)
    mean, std = (torch.as_tensor(v).to(drawn).expand(drawn.shape).flatten() for v in (mean, std))
    return places, mean[places] + std[places] * standard.to(drawn)


def _of_exponential(drawn: Tensor, args: Any, kwargs: Any, samples: int) -> Candidates:
    tail = UNSEEN / samples
    return _everywhere(drawn, tail, -math.log(tail))


def _of_poisson(drawn: Tensor, args: Any, kwargs: Any, samples: int) -> Candidates:
    rate, far = args[0].flatten(), -NormalDist().inv_cdf(UNSEEN / samples)
    return torch.arange(len(rate)), (rate + far * rate.sqrt() + far**2 / 6 + 1).floor()


def _everywhere(drawn: Tensor, *values: float) -> Candidates:
    """Each of the values at each index."""
    places = torch.arange(drawn.numel()).repeat(len(values))
    return places, torch.tensor(values).repeat_interleave(drawn.numel())


def _is_rare(p: Tensor, samples: int) -> Tensor:
    return (p > 0) & (p * samples < RARE_COUNT)


RARE: dict[Any, Callable[[Tensor, Any, Any, int], Candidates]] = {
    torch.bernoulli: _of_bernoulli,
    torch.multinomial: _of_multinomial,
    torch.rand: _of_uniform,
    torch.rand_like: _of_uniform,
    torch.Tensor.uniform_: _of_uniform,
    torch.randn: _of_normal,
    torch.randn_like: _of_normal,
    torch.Tensor.normal_: _of_normal,
    torch.normal: _of_normal_about,
    torch.Tensor.exponential_: _of_exponential,
    torch.poisson: _of_poisson,
}
IN_PLACE = {torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.exponential_}
