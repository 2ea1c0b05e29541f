"""Variational autoencoder with categorical latents (Jang et al. 2017)."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn


class CategoricalVAE(PyroModule):
    """z_n: V one-hot variables of C classes, uniform; x_n ~ Bernoulli(decoder(z_n)).

    Args:
        decoder: (…, V · C) → logits (…, D).
        variables, classes: V and C.
        size: N, rows of the whole data set.
    """

    def __init__(self, decoder: nn.Module, variables: int, classes: int, size: int) -> None:
        super().__init__()
        self.decoder, self.size = decoder, size
        self.shape = (variables, classes)

    def forward(self, x: Tensor) -> None:
        """Sites ``z`` (B, V, C) and ``x`` (B, D)."""
        with pyro.plate("data", self.size, subsample=x):
            uniform = dist.OneHotCategorical(logits=x.new_zeros(self.shape))
            z = pyro.sample("z", uniform.to_event(1))
            logits = self.decoder(z.flatten(-2))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def mean(self, z: Tensor) -> Tensor:
        """E[x | z]: (…, V, C) → (…, D)."""
        return torch.sigmoid(self.decoder(z.flatten(-2)))
