"""Gradients of Bernoulli sites from pairs of antithetic draws.

ARM: Yin & Zhou 2019.  DisARM, also called U2G: Dong et al. 2020, Yin et al. 2020.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.estimators.ledger import Choice, Ledger, read_ledger, signal_of, value_of
from inference.estimators.programs import ModelAndGuide, replay_prefix
from inference.estimators.sitewise import OneByOne, Part
from inference.util.errors import UserError
from inference.util.sites import base, distribution_name


class AntitheticPair(OneByOne):
    """A pair b = 1[u < σ(φ)], b̃ = 1[1 − u < σ(φ)] at each Bernoulli site, all its bits together.

    Site by site in the guide's order: earlier sites keep their draws, later ones are redrawn, so
    that n sites cost 1 + n model evaluations.  Other sites must be reparameterised; their
    pathwise gradient, and the bound, are means over all 1 + n evaluations.

    Raises:
        UserError: a site is neither Bernoulli nor reparameterised.
    """

    @abstractmethod
    def coefficient(
        self, gap: Tensor, u: Tensor, bit: Tensor, other: Tensor, logits: Tensor
    ) -> Tensor:
        """The gradient of the bound in the logits, from ``gap`` = f(b) − f(b̃)."""

    def one(self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide) -> Part:
        """The site's, by the other branch."""
        logits = bernoulli_logits(choice, type(self).__name__)
        bit = value_of(choice, trace)
        with torch.no_grad():
            u = uniform_given(bit, torch.sigmoid(logits))
            other = (1 - u < torch.sigmoid(logits)).to(bit)
        branch = read_ledger([programs.run(replay_prefix(trace, choice.name, other))])
        gap = choice.beside_events(signal_of(choice, main) - signal_of(choice, branch))
        slope = self.coefficient(gap, u, bit, other, logits.detach())
        return Part((slope * logits).sum(), [branch])


class ARM(AntitheticPair):
    """Augment-REINFORCE-merge: ``[f(b̃) − f(b)] (u − ½)`` in the logits (Yin & Zhou 2019).

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.tensor(0.3, requires_grad=True)
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(logits=0.3))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=w))
    >>> torch.autograd.grad(ARM().differentiable_loss(model, guide), w)[0].abs() < 1e-6
    tensor(True)

    Unbiased; Bernoulli sites; 1 + n model evaluations for n sites.
    """

    def coefficient(
        self, gap: Tensor, u: Tensor, bit: Tensor, other: Tensor, logits: Tensor
    ) -> Tensor:
        """Equation 9 of the paper."""
        return -gap * (u - 0.5)


class DisARM(AntitheticPair):
    """ARM with u integrated out given the pair (Dong et al. 2020, equation 7).

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.zeros(4, requires_grad=True)
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(torch.ones(4) / 2).to_event(1))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=w).to_event(1))
    >>> torch.autograd.grad(DisARM().differentiable_loss(model, guide), w)[0].abs().max() < 1e-6
    tensor(True)

    ``½ [f(b) − f(b̃)] (−1)^b̃ 1[b ≠ b̃] σ(|φ|)`` in the logits: never a larger variance than
    ARM's.  Unbiased; Bernoulli sites; 1 + n model evaluations for n sites.
    """

    def coefficient(
        self, gap: Tensor, u: Tensor, bit: Tensor, other: Tensor, logits: Tensor
    ) -> Tensor:
        """(−1)^b̃ 1[b ≠ b̃] = b − b̃."""
        return 0.5 * gap * (bit - other) * torch.sigmoid(logits.abs())


def bernoulli_logits(choice: Choice, estimator: str) -> Tensor:
    """(batch …, event …) φ of a Bernoulli site, with its graph."""
    if distribution_name(choice.fn) != "Bernoulli":
        raise UserError(
            f"{estimator} handles Bernoulli sites, but site {choice.name!r} is a "
            f"{distribution_name(choice.fn)}: use LeaveOneOut(num_particles=4) or ScoreFunction()"
        )
    logits: Tensor = base(choice.fn).logits
    return logits


def uniform_given(bit: Tensor, probability: Tensor) -> Tensor:
    """u ~ U(0, 1) given that ``bit`` = 1[u < probability]."""
    v = torch.rand_like(probability)
    return torch.where(bit > 0, v * probability, probability + v * (1 - probability))
