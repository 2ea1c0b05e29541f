"""The Bayesian support vector machine as a head (Polson & Scott 2011, Henao et al. 2014).

A label is C answers y_ℓ = ±1, one against the rest, with margins u_ℓ = y_ℓ (β_ℓᵀs + b_ℓ) and

    L(y_ℓ | s) = ∫₀^∞ √(γ/2πλ) exp(−γ (1 + λ − u)²/2λ) dλ = exp(−2γ max(0, 1 − u)).

It is a pseudo-likelihood: over labels it does not sum to one.  λ is summed out (``Hinge``), or a
latent with its exact posterior as guide (``Augmented``): then log p(y, λ) − log q(λ) is
−2γ max(0, 1 − u) for every draw.
"""

from __future__ import annotations

import math
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions.transforms import PowerTransform

from ppl_models.inverse_gaussian import InverseGaussian
from ppl_models.label_heads import NO_LABEL, LabelHead

Size = torch.Size | list[int] | tuple[int, ...]
NEAREST = 1e-6  # least |1 − u|: at the margin itself, 1/λ has no mean


class Hinge(LabelHead):
    """The factor −2γ Σ_ℓ max(0, 1 − u_ℓ), where there is a label.

    Args:
        features, classes: as of every head.
        gamma: γ, fixed: fitted by the pseudo-likelihood it would go to zero.
    """

    def __init__(self, features: int, classes: int, gamma: float = 1.0) -> None:
        super().__init__(features, classes)
        self.gamma = gamma

    def forward(self, s: Tensor, y: Tensor) -> None:
        """Score labels y (B,), ``NO_LABEL`` for none."""
        loss = (1 - self.margins(s, y)).relu().sum(-1)
        pyro.factor("y", -2 * self.gamma * loss * (y != NO_LABEL))

    def margins(self, s: Tensor, y: Tensor) -> Tensor:
        """(…, B, C) u."""
        signs = 2 * F.one_hot(y.clamp(min=0), self.classes).to(s.dtype) - 1
        return signs * self.score(s)


class Augmented(Hinge):
    """The site ``lambda`` (…, B, C), of a flat measure, and the factor log p(y, λ | s)."""

    def forward(self, s: Tensor, y: Tensor) -> None:
        """Score labels y (B,) with λ."""
        known = y != NO_LABEL
        flat = Flat(torch.zeros_like(s[..., :1]).expand(*s.shape[:-1], self.classes))
        scale = pyro.sample("lambda", flat.to_event(1).mask(known))
        u = self.margins(s, y)
        pyro.factor("y", log_joint(scale, u, self.gamma).sum(-1) * known)

    def draw(self, s: Tensor, y: Tensor) -> None:
        """Draw λ from p(λ | y, s)."""
        q = posterior(self.margins(s, y), self.gamma)
        pyro.sample("lambda", q.to_event(1).mask(y != NO_LABEL))


class Flat(dist.TorchDistribution):
    """The measure of density 1 on λ > 0.

    It has no draws.  Where a program runs without its guide, to find its sites, λ is 1.

    Args:
        like: of the batch shape.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.positive

    def __init__(self, like: Tensor) -> None:
        self.like = like
        super().__init__(like.shape, validate_args=False)

    def expand(self, batch_shape: Size, _instance: None = None) -> Flat:
        """The same measure with a larger batch shape."""
        return Flat(self.like.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(value)

    def sample(self, sample_shape: Size = ()) -> Tensor:
        """Ones."""
        return torch.ones_like(self.like.expand(self._extended_shape(torch.Size(sample_shape))))


def log_joint(scale: Tensor, u: Tensor, gamma: float) -> Tensor:
    """log √(γ/2πλ) − γ (1 + λ − u)²/2λ, nats: equation 17 of the supplement."""
    normalised = 0.5 * (math.log(gamma / (2 * math.pi)) - scale.log())
    return normalised - gamma * (1 + scale - u) ** 2 / (2 * scale)


def posterior(u: Tensor, gamma: float) -> dist.TorchDistribution:
    """p(λ | y, s): 1/λ ~ InverseGaussian(1/|1 − u|, γ).  (The supplement's 1 for γ is a slip.)"""
    distance = (1 - u).abs().clamp(min=NEAREST)
    inverse = InverseGaussian(1 / distance, gamma)
    return dist.TransformedDistribution(inverse, [PowerTransform(u.new_tensor(-1.0))])


def expectation_maximisation(rows: Tensor, spread: float, steps: int) -> Tensor:
    """β of least 2 Σ max(0, 1 − rowᵀβ) + |β|²/2ν², by EM with λ as the missing data.

    E: w = E[1/λ] = 1/|1 − rowᵀβ|;  M: β = (I/ν² + Rᵀ W R)⁻¹ Rᵀ(1 + w).

    Args:
        rows: (N, D) y_n x_n.
        spread: ν, of the prior of β.
        steps: of EM.
    """
    beta = rows.new_zeros(rows.shape[1])
    ridge = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device) / spread**2
    for _ in range(steps):
        w = 1 / (1 - rows @ beta).abs().clamp(min=NEAREST)
        beta = torch.linalg.solve(ridge + rows.T @ (w[:, None] * rows), rows.T @ (1 + w))
    return beta
