"""Mean-field Gaussians over the latent vectors of words, looked up for each occurrence."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_models.skip_gram import GaussianVectors, SkipGram, inner

INITIAL_SCALE = 0.05  # standard deviation of initial m


class MeanField(nn.Module):
    """q(v_w) = N(m_w, diag s_w²) for the words of one site.

    Args:
        prior: the model's site.
    """

    def __init__(self, prior: GaussianVectors) -> None:
        super().__init__()
        self.prior = (prior,)  # the model's: not a submodule of the guide
        shape = len(prior.share), prior.width
        self.loc, self.log_scale = (nn.Parameter(torch.empty(shape)) for _ in range(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random m, and the prior's s, which words without data keep."""
        with torch.no_grad():
            self.loc.normal_(0, INITIAL_SCALE)
            self.log_scale.fill_(self.prior[0].scale).log_()

    def forward(self, words: Tensor) -> Tensor:
        """(B, M, D) draws for the words (B, M)."""
        loc, log_scale = (
            F.embedding(words, table, sparse=True).unsqueeze(-3)
            for table in (self.loc, self.log_scale)
        )
        return self.prior[0].sample(words, dist.Normal(loc, log_scale.exp()))


class MeanFieldSkipGram(PyroModule):
    """q(u, v) of a ``SkipGram`` whose vectors are ``GaussianVectors``: independent Gaussians.

    Args:
        model: the skip-gram.
        u, v: its latent vectors.
    """

    def __init__(self, model: SkipGram, u: GaussianVectors, v: GaussianVectors) -> None:
        super().__init__()
        self.size, self.window = model.contrast.size, model.window
        self.u, self.v = MeanField(u), MeanField(v)

    def forward(self, words: Tensor, sentence: Tensor, noise: Tensor) -> None:
        """Sites u of the rows' words, and v of these, their neighbours and the noise."""
        with pyro.plate("rows", self.size, subsample=words, dim=-3):
            self.u(inner(words, self.window))
            self.v(torch.cat([words, noise], -1))
