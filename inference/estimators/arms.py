"""Gradients of Bernoulli sites from K draws that avoid each other (Dimitriev & Zhou 2021, ARMS).

Where leave-one-out draws K independent bits, these are drawn by a copula under which two of them
rarely agree on the less probable value.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.estimators.antithetic import bernoulli_logits, uniform_given
from inference.estimators.ledger import Choice, Ledger, read_ledger, signal_of, value_of
from inference.estimators.programs import ModelAndGuide, replay_prefix
from inference.estimators.sitewise import OneByOne, Part
from inference.util.errors import UserError


class ARMS(OneByOne):
    """``Σ_k (f_k − f̄) (b_k − σ) ρ / (K − 1)`` in the logits of K antithetic draws of each site.

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.zeros(4, requires_grad=True)
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(torch.ones(4) / 2).to_event(1))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=w).to_event(1))
    >>> torch.autograd.grad(ARMS(4).differentiable_loss(model, guide), w)[0].abs().max() < 1e-6
    tensor(True)

    ρ = σ(1 − σ) / (σ − P(b_j = b_k = 1)) undoes what the draws avoid; it is 1 for independent
    ones, where the estimator is ``LeaveOneOut``; for K = 2 it is ``DisARM`` (the paper's theorem
    1).  Unbiased; Bernoulli sites; site by site, 1 + n (K − 1) model evaluations for n sites, over
    which bounds and pathwise gradients are averaged.

    Args:
        antithetic: K.

    Raises:
        UserError: a site is neither Bernoulli nor reparameterised; K is below 2.
    """

    def __init__(self, antithetic: int = 4, num_particles: int = 1, **options: Any) -> None:
        if antithetic < 2:
            raise UserError(f"ARMS of {antithetic} draws: give at least 2")
        super().__init__(num_particles, **options)
        self.antithetic = antithetic

    def one(self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide) -> Part:
        """The site's, by K − 1 more branches."""
        logits = bernoulli_logits(choice, type(self).__name__)
        phi, first = logits.detach(), value_of(choice, trace)
        others = antithetic_bits(first, phi, self.antithetic)
        starts = [replay_prefix(trace, choice.name, bit) for bit in others]
        branches = [read_ledger([programs.run(start)]) for start in starts]
        f = torch.stack([signal_of(choice, run) for run in (main, *branches)])
        bits = torch.stack([first, *others])
        centred = choice.beside_events(f - f.mean(0))
        slope = (centred * (bits - phi.sigmoid())).sum(0) * correction(phi, self.antithetic)
        return Part((slope / (self.antithetic - 1) * logits).sum(), branches)


def antithetic_bits(first: Tensor, logits: Tensor, count: int) -> list[Tensor]:
    """K − 1 bits (…), each 1 with probability σ(φ), that avoid ``first`` (…) and each other.

    d ~ Dirichlet(1, …, 1), and the k-th bit has its less probable value, of probability q, where
    d_k > 1 − q^{1/(K−1)}: as the d_k sum to 1, few of them are large.
    """
    power, likely = 1 / (count - 1), (logits > 0).to(logits)
    q = torch.sigmoid(-logits.abs())
    with torch.no_grad():
        v = uniform_given((first != likely).to(logits), q)  # (1 − d_1)^{K−1}
        rest = torch.rand(count - 1, *logits.shape, dtype=q.dtype, device=q.device).log()
        d = v**power * rest / rest.sum(0)
        rare = d > 1 - q**power
    return [torch.where(r, 1 - likely, likely).to(first) for r in rare]


def correction(logits: Tensor, count: int) -> Tensor:
    """ρ = q (1 − q) / (q − P), P = max(0, 2 q^{1/(K−1)} − 1)^{K−1}, q of the rarer value."""
    q = torch.sigmoid(-logits.abs())
    return (1 - q) / (1 - both_rare(q, count) / q.clamp(min=torch.finfo(q.dtype).tiny))


def both_rare(q: Tensor, count: int) -> Tensor:
    """P(b_j = b_k = rare) of two of K bits whose rarer value has probability q ≤ ½."""
    return (2 * q ** (1 / (count - 1)) - 1).clamp(min=0) ** (count - 1)
