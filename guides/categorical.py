"""Amortized categorical guide: a network gives a product of categoricals (Jang et al. 2017)."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn


class AmortizedOneHot(PyroModule):
    """q(z | x) = Π_v OneHotCategorical(softmax(encoder(x)_v)).

    Args:
        encoder: (B, D) → logits (B, V · C).
        variables, classes: V and C.
        size: N, rows of the whole data set.
    """

    def __init__(self, encoder: nn.Module, variables: int, classes: int, size: int) -> None:
        super().__init__()
        self.encoder, self.size = encoder, size
        self.shape = (variables, classes)

    def forward(self, x: Tensor) -> None:
        """Site ``z`` (B, V, C)."""
        with pyro.plate("data", self.size, subsample=x):
            logits = self.encoder(x).unflatten(-1, self.shape)
            pyro.sample("z", dist.OneHotCategorical(logits=logits).to_event(1))
