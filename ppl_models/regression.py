"""Regressions as Pyro programs: maximum likelihood, no latent.

Their negative log-likelihood is the familiar cost: binary cross-entropy, cross-entropy, squared
error (halved, over σ², plus log σ√2π).  Fit them with ``guides.empty.Empty``.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn


class LogisticRegression(PyroModule):
    """y ~ Bernoulli(σ(wᵀx + c)): −log p(y | x) is the binary cross-entropy."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self.linear, self.size = nn.Linear(features, 1), size

    def forward(self, x: Tensor, y: Tensor) -> None:
        """x (B, features), y (B,) of zeros and ones."""
        with pyro.plate("data", self.size, subsample=x):
            logits = self.linear(x).squeeze(-1)
            pyro.sample("y", dist.Bernoulli(logits=logits), obs=y)


class SoftmaxRegression(PyroModule):
    """y ~ Categorical(softmax(Wx + c)): −log p(y | x) is the cross-entropy."""

    def __init__(self, features: int, classes: int, size: int) -> None:
        super().__init__()
        self.linear, self.size = nn.Linear(features, classes), size

    def forward(self, x: Tensor, y: Tensor) -> None:
        """x (B, features), y (B,) class indices."""
        with pyro.plate("data", self.size, subsample=x):
            pyro.sample("y", dist.Categorical(logits=self.linear(x)), obs=y)


class GaussianRegression(PyroModule):
    """y ~ N(wᵀx + c, σ²): −log p(y | x) is (y − wᵀx − c)²/(2σ²) + log σ√2π."""

    def __init__(self, features: int, size: int, scale: float = 1.0) -> None:
        super().__init__()
        self.linear, self.size, self.scale = nn.Linear(features, 1), size, scale

    def forward(self, x: Tensor, y: Tensor) -> None:
        """x (B, features), y (B,)."""
        with pyro.plate("data", self.size, subsample=x):
            pyro.sample("y", dist.Normal(self.linear(x).squeeze(-1), self.scale), obs=y)
