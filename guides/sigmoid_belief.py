"""Recognition networks of binary layers, bottom up."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn


class BottomUpBernoulli(PyroModule):
    """q(b_1 | x) q(b_2 | b_1) …, each a factorised Bernoulli with logits g_l (Mnih & Gregor 2014).

    Args:
        networks: g_1, …, g_L: layer l − 1 (…, D_{l−1}) → logits of layer l (…, D_l).
        mean: (D_0,) of the data, taken off before g_1 reads them.
        size: N, rows of the whole data set.
    """

    mean: Tensor

    def __init__(self, networks: Sequence[nn.Module], mean: Tensor, size: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("mean", mean)
        self.size = size

    def forward(self, x: Tensor) -> None:
        """Draw b1, b2, … for x (B, D_0)."""
        with pyro.plate("data", self.size, subsample=x):
            below = x - self.mean
            for layer, network in enumerate(self.networks, start=1):
                logits = network(below)
                below = pyro.sample(f"b{layer}", dist.Bernoulli(logits=logits).to_event(1))
