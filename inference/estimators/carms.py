"""Gradients of categorical sites from K draws that avoid each other (Dimitriev & Zhou 2021, CARMS).

A category is the first 1 in a row of bits, "this one, rather than one of those that follow".  Bits
of K draws avoid each other as those of ARMS do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.estimators.arms import antithetic_bits, both_rare, correction
from inference.estimators.ledger import Choice, Ledger, read_ledger, signal_of, value_of
from inference.estimators.programs import ModelAndGuide, replay_prefix
from inference.estimators.sitewise import OneByOne, Part
from inference.util.errors import UserError
from inference.util.sites import base, distribution_name


class CARMS(OneByOne):
    """``Σ_{k≠l} w(z_k, z_l) (f_k − f_l) ∇log q(z_k) / K (K − 1)`` of K antithetic draws.

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.zeros(4, requires_grad=True)
    >>> model = lambda: pyro.sample("k", dist.Categorical(torch.ones(4) / 4))
    >>> guide = lambda: pyro.sample("k", dist.Categorical(logits=w))
    >>> torch.autograd.grad(CARMS(4).differentiable_loss(model, guide), w)[0].abs().max() < 1e-6
    tensor(True)

    w(i, j) = q(i) q(j) / P(z_k = i, z_l = j) undoes what the draws avoid, for each number of a site
    by itself; it is 1 for independent ones, where the estimator is ``LeaveOneOut``, and below 2
    always.  For two categories it is ``ARMS``.  Unbiased; Categorical and OneHotCategorical sites;
    site by site, 1 + n (K − 1) model evaluations for n sites, over which bounds and pathwise
    gradients are averaged.  Of the paper's couplings it is the one by sticks, the least probable
    category first: every pair of two categories then has a probability above 0, in closed form.

    Args:
        antithetic: K.

    Raises:
        UserError: a site is neither categorical nor reparameterised; K is below 2.
    """

    def __init__(self, antithetic: int = 4, num_particles: int = 1, **options: Any) -> None:
        if antithetic < 2:
            raise UserError(f"CARMS of {antithetic} draws: give at least 2")
        super().__init__(num_particles, **options)
        self.antithetic = antithetic

    def one(self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide) -> Part:
        """The site's, by K − 1 more branches."""
        refuse_uncategorical(type(self).__name__, choice)
        inner, first = base(choice.fn), value_of(choice, trace)
        sticks = Sticks.of(inner.logits.detach(), self.antithetic)
        one_hot = distribution_name(inner) == "OneHotCategorical"
        places = sticks.draw(first.argmax(-1) if one_hot else first)
        drawn = [first, *(like(first, sticks.category(place), one_hot) for place in places[1:])]
        starts = [replay_prefix(trace, choice.name, value) for value in drawn[1:]]
        branches = [read_ledger([programs.run(start)]) for start in starts]
        f = torch.stack([signal_of(choice, run) for run in (main, *branches)])
        own = len(inner.batch_shape) - len(choice.fn.batch_shape)  # dimensions of one element
        gap = (f[:, None] - f)[(..., *(None,) * own)]
        slope = (sticks.weight(places[:, None], places) * gap).sum(1)
        scores = torch.stack([inner.log_prob(value) for value in drawn])
        pairs = self.antithetic * (self.antithetic - 1)
        return Part((slope * scores).sum() / pairs, branches)


@dataclass(frozen=True)
class Sticks:
    """A category as the first 1 in a row of bits, one for each category but the most probable.

    Attributes:
        order: (…, C) the categories, the least probable first.
        logits: (…, C − 1) of each bit, given that those before it are 0.
        count: K.
    """

    order: Tensor
    logits: Tensor
    count: int

    @staticmethod
    def of(logits: Tensor, count: int) -> Sticks:
        """By the logits (…, C) of the categories."""
        ascending, order = logits.sort(-1)
        left = ascending.flip(-1).logcumsumexp(-1).flip(-1)
        return Sticks(order, ascending[..., :-1] - left[..., 1:], count)

    def draw(self, first: Tensor) -> Tensor:
        """(K, …) places in the order: of ``first`` (…), a category, and of K − 1 others."""
        with torch.no_grad():
            place = (self.order == first.unsqueeze(-1)).to(self.logits).argmax(-1)
            step = torch.arange(self.logits.shape[-1], device=first.device)
            beyond = torch.bernoulli(self.logits.sigmoid())  # a draw has these bits, too, unseen
            behind = step > place.unsqueeze(-1)
            bits = torch.where(behind, beyond, (step == place.unsqueeze(-1)).to(beyond))
            others = [first_one(row) for row in antithetic_bits(bits, self.logits, self.count)]
        return torch.stack([place, *others])

    def category(self, place: Tensor) -> Tensor:
        """(…) the category at a place of the order."""
        return self.order.gather(-1, place.unsqueeze(-1)).squeeze(-1)

    def weight(self, one: Tensor, other: Tensor) -> Tensor:
        """(K, K, …) q(i) q(j) / P(i, j) at two different places; it depends on the lesser.

        Where two bits are both 0, by (1 − π)² / P(0, 0), up to the first that is 1 in one of
        both, by ρ.
        """
        pi = self.logits[..., :-1].sigmoid()  # at most 1/3: of three left, it is the least
        passed = (1 - pi) ** 2 / (1 - 2 * pi + both_rare(pi, self.count))
        before = torch.nn.functional.pad(passed.cumprod(-1), (1, 0), value=1.0)
        by_place = before * correction(self.logits, self.count)
        by_place = torch.nn.functional.pad(by_place, (0, 1))  # both at the last place: no gap
        least = torch.minimum(one, other).unsqueeze(-1)
        wide = by_place.expand(*least.shape[:-1], by_place.shape[-1])
        return wide.gather(-1, least).squeeze(-1)


def first_one(bits: Tensor) -> Tensor:
    """(…) the place of the first 1 of (…, C − 1) bits; C − 1 if there is none."""
    return torch.nn.functional.pad(bits, (0, 1), value=1.0).argmax(-1)


def like(value: Tensor, category: Tensor, one_hot: bool) -> Tensor:
    """The category as a draw of the same kind as ``value``."""
    if one_hot:
        return torch.nn.functional.one_hot(category, value.shape[-1]).to(value)
    return category.to(value)


def refuse_uncategorical(estimator: str, choice: Choice) -> None:
    """Raise a ``UserError`` unless the site is categorical."""
    if (kind := distribution_name(choice.fn)) not in ("Categorical", "OneHotCategorical"):
        instead = "ARMS" if kind == "Bernoulli" else "LeaveOneOut"
        raise UserError(
            f"{estimator} handles Categorical and OneHotCategorical sites, but site "
            f"{choice.name!r} is a {kind}: use {instead}(4)"
        )
