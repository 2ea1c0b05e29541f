"""The sum over the values of each number of a discrete site, all else held.

Local expectation gradients (Titsias & Lázaro-Gredilla 2015), Rao-Blackwellised: what is summed
over is not drawn, so that it makes no noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.estimators.ledger import (
    Choice,
    Ledger,
    read_ledger,
    refuse_coupled,
    signal_of,
    value_of,
)
from inference.estimators.programs import ModelAndGuide, replay_prefix
from inference.estimators.sitewise import OneByOne, Part
from inference.util.errors import UserError
from inference.util.sites import base, distribution_name

MARGINALISED = ("Bernoulli", "Categorical", "OneHotCategorical")


class Marginal(OneByOne):
    """``Σ_d Σ_s f(z with z_d = s) ∇q(z_d = s)`` for each number d of a site.

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.tensor(0.0, requires_grad=True)
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(0.2))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=w))
    >>> loss = Marginal().differentiable_loss(model, guide)
    >>> round(torch.autograd.grad(loss, w)[0].item(), 4)  # exactly: ½ log 2
    0.3466

    The other numbers of the site, and all earlier sites, keep their draws; later ones are drawn
    anew.  All elements of a site's plates take their next value at once, as each has a signal of
    its own.  A site of D numbers with S values each costs D (S − 1) model evaluations.  Unbiased;
    Bernoulli, Categorical and OneHotCategorical sites.

    Raises:
        UserError: a site is neither one of these nor reparameterised, or a later term outside of
            its plates may see several of their elements.
    """

    def one(self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide) -> Part:
        """The site's; the branches' draws are not the guide's."""
        refuse_unsummable(type(self).__name__, choice)
        refuse_coupled(choice, main, type(self).__name__)
        inner, value = base(choice.fn), value_of(choice, trace)
        f, surrogate = signal_of(choice, main), []
        own = inner.batch_shape[len(choice.fn.batch_shape) :]  # the numbers of one element
        for number in one_at_a_time(own, f):
            for other in neighbours(inner, value, number > 0):
                run = programs.run(replay_prefix(trace, choice.name, other))
                gap = signal_of(choice, read_ledger([run])) - f  # Σ_s ∇q(s) f = 0
                beside = gap[(..., *(None,) * len(own))]
                surrogate.append((inner.log_prob(other).exp() * beside * number).sum())
        return Part(torch.stack(surrogate).sum())


def one_at_a_time(shape: torch.Size, like: Tensor) -> Tensor:
    """(D, shape …) with a single 1 in each, at each place of the shape; D their number."""
    count = math.prod(shape)
    return torch.eye(count, dtype=like.dtype, device=like.device).reshape(count, *shape)


def neighbours(inner: Any, value: Tensor, moved: Tensor) -> Iterator[Tensor]:
    """The S − 1 draws that differ from ``value`` in the number that ``moved`` shows."""
    if distribution_name(inner) == "Bernoulli":
        yield torch.where(moved, 1 - value, value)
        return
    count = inner.param_shape[-1]
    for shift in range(1, count):
        if distribution_name(inner) == "Categorical":
            yield torch.where(moved, (value + shift) % count, value)
        else:
            yield torch.where(moved.unsqueeze(-1), value.roll(shift, -1), value)


def refuse_unsummable(estimator: str, choice: Choice) -> None:
    """Raise a ``UserError`` unless the site has few values."""
    kind = distribution_name(choice.fn)
    if kind not in MARGINALISED:
        raise UserError(
            f"{estimator} sums over Bernoulli, Categorical and OneHotCategorical, but site "
            f"{choice.name!r} is a {kind}: use LeaveOneOut(num_particles=4)"
        )
