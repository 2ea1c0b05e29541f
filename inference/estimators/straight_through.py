"""Discrete draws whose gradient is that of something smooth: biased, but with little noise.

ReinMax: Liu et al. 2023.  Gumbel-Rao: Paulus et al. 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inference.estimators.relaxed import (
    Relaxed,
    conditional_logits,
    hard_sample,
    perturbed_logits,
    relaxed_sample,
)
from inference.util.sites import distribution_name


class ReinMax(Relaxed):
    """A draw D whose gradient is of second order, by the trapezium rule (Liu et al. 2023).

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.zeros(3, requires_grad=True)
    >>> model = lambda: pyro.sample("k", dist.OneHotCategorical(torch.ones(3) / 3))
    >>> guide = lambda: pyro.sample("k", dist.OneHotCategorical(logits=w))
    >>> ReinMax().differentiable_loss(model, guide).backward()

    With π = softmax(φ), the value is D and the gradient that of 2 π₁ − π/2, where π₁ is
    softmax(log ((D + softmax(φ/τ))/2)) as a function of φ (algorithm 2).  For τ = 1 it is exact in
    expectation where the bound is quadratic in the draw; else biased.  One model evaluation a
    particle; Bernoulli, one-hot and reparameterised sites.

    Args:
        temperature: τ.

    Raises:
        UserError: a site is none of these.
    """

    def __init__(self, num_particles: int = 1, *, temperature: float = 1.0, **options: Any) -> None:
        super().__init__(num_particles, **options)
        self.temperature = temperature

    def relaxed(self, inner: Any) -> Tensor:
        """D by value, 2 π₁ − π/2 by gradient."""
        phi: Tensor = inner.logits
        draw = hard_sample(inner, perturbed_logits(inner)).detach()
        middle = (draw + probabilities(inner, phi / self.temperature)) / 2
        moved = probabilities(inner, (inverse(inner, middle) - phi).detach() + phi)
        slope = 2 * moved - probabilities(inner, phi) / 2
        return draw + slope - slope.detach()


class GumbelRao(Relaxed):
    """Straight-through Gumbel-softmax, averaged over the noise that gives the draw (Paulus 2021).

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.zeros(3, requires_grad=True)
    >>> model = lambda: pyro.sample("k", dist.OneHotCategorical(torch.ones(3) / 3))
    >>> guide = lambda: pyro.sample("k", dist.OneHotCategorical(logits=w))
    >>> GumbelRao().differentiable_loss(model, guide).backward()

    Given the draw D, K perturbed logits z_k = φ + G_k with H(z_k) = D; the value is D, the gradient
    that of the mean of softmax(z_k/τ), the noise held.  The bias is that of
    ``GumbelSoftmax(hard=True)``, the variance less.  One model evaluation a particle; Bernoulli,
    one-hot and reparameterised sites.

    Args:
        samples: K.
        temperature: τ.

    Raises:
        UserError: a site is none of these.
    """

    def __init__(
        self,
        num_particles: int = 1,
        *,
        samples: int = 10,
        temperature: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(num_particles, **options)
        self.samples, self.temperature = samples, temperature

    def relaxed(self, inner: Any) -> Tensor:
        """D by value, the mean of K relaxed draws by gradient."""
        phi: Tensor = inner.logits
        draw = hard_sample(inner, perturbed_logits(inner)).detach()
        soft = []
        for _ in range(self.samples):
            noise = (conditional_logits(inner, draw) - phi).detach()
            soft.append(relaxed_sample(inner, phi + noise, self.temperature))
        slope = torch.stack(soft).mean(0)
        return draw + slope - slope.detach()


def probabilities(inner: Any, logits: Tensor) -> Tensor:
    """σ or softmax."""
    is_bit = distribution_name(inner) == "Bernoulli"
    return torch.sigmoid(logits) if is_bit else torch.softmax(logits, -1)


def inverse(inner: Any, p: Tensor) -> Tensor:
    """Logits of probabilities, kept from ±∞."""
    tiny = torch.finfo(p.dtype).eps
    if distribution_name(inner) == "Bernoulli":
        return torch.logit(p.clamp(tiny, 1 - tiny))
    return p.clamp(min=tiny).log()
