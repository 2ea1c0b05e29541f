"""The variational autoencoder's generative half (Kingma & Welling 2014).

z_n ~ N(0, I),    x_n ~ p(x | decoder(z_n)),    n = 1 … N
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from ppl_models.likelihoods import Likelihood


class VAE(PyroModule):
    """p(x, z) for images x, with a Gaussian prior on z.

    Args:
        decoder: (..., latent_dim) → (..., *shape).
        likelihood: one of ``ppl_models.likelihoods``; distribution of an image given the output.
        latent_dim: length of z.
        size: N, the number of images in the whole data set.  A batch of B images is scaled by
            N / B, so that its ELBO is an unbiased estimate of the data set's.
    """

    def __init__(self, decoder: nn.Module, likelihood: Likelihood, latent_dim: int, size: int):
        super().__init__()
        self.decoder = decoder
        self.likelihood = likelihood
        self.latent_dim = latent_dim
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Sites ``z`` (B, latent_dim) and ``x`` (B, *shape) in plate ``data``; returns z."""
        event_dim = x.dim() - 1
        # subsample=x tells the plate the batch's length and draws no indices of its own.
        with pyro.plate("data", self.size, subsample=x):
            prior = dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)
            z = pyro.sample("z", prior)
            pyro.sample("x", self.likelihood(self.decoder(z), event_dim), obs=x)
        return z

    def mean(self, z: Tensor) -> Tensor:
        """E[x | z]: (..., latent_dim) → (..., *shape)."""
        return self.likelihood.mean(self.decoder(z))
