"""Amortized guides: one network gives every datum its q(z_n | x_n) (Kingma & Welling 2014)."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn


class AmortizedGaussian(PyroModule):
    """q(z | x) = N(μ(x), diag σ²(x)).

    Args:
        encoder: (B, *shape) → (B, 2 · latent_dim): μ and log σ side by side.
        size: N, the number of data in the whole set (the scale of a batch is N / B).
        latent: the site's name, the model's.
    """

    def __init__(self, encoder: nn.Module, size: int, latent: str = "z"):
        super().__init__()
        self.encoder = encoder
        self.size = size
        self.latent = latent

    def forward(self, x: Tensor) -> Tensor:
        """Site ``z`` (B, latent_dim) in plate ``data``; returns its draw."""
        with pyro.plate("data", self.size, subsample=x):
            mean, log_scale = self.encoder(x).chunk(2, dim=-1)
            return pyro.sample(self.latent, dist.Normal(mean, log_scale.exp()).to_event(1))
