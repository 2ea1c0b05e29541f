"""Sigmoid belief network: layers of binary latents (Neal 1992; Mnih & Gregor 2014)."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn


class SigmoidBeliefNetwork(PyroModule):
    """b_L ~ Bernoulli(σ(c)), b_l ~ Bernoulli(σ(f_l(b_{l+1}))), x ~ Bernoulli(σ(f_0(b_1))).

    The field's benchmark for gradients through discrete latents; sites "b1" … "bL" and "x".

    Args:
        networks: f_0, …, f_{L−1}: layer l + 1 (…, D_{l+1}) → logits of layer l (…, D_l).
        top: D_L, units of the top layer.
        size: N, rows of the whole data set.
    """

    def __init__(self, networks: Sequence[nn.Module], top: int, size: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.prior = nn.Parameter(torch.zeros(top))
        self.size = size

    def forward(self, x: Tensor) -> None:
        """x (B, D_0) of zeros and ones."""
        with pyro.plate("data", self.size, subsample=x):
            logits: Tensor = self.prior
            for layer in range(len(self.networks), 0, -1):
                b = pyro.sample(f"b{layer}", dist.Bernoulli(logits=logits).to_event(1))
                logits = self.networks[layer - 1](b)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)
