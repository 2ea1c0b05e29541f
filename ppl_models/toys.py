"""Toy problems with gradients in closed form: an expected cost, without prior or entropy.

Each pair draws its latent under a mask, so that the ELBO is minus the expected cost alone.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn


class ExpectedSquare(PyroModule):
    """E[z²] under z ~ N(aθ + b, 1): gradient 2aμ in θ.

    One score-function gradient has variance a²(μ⁴ + 14μ² + 15), one reparameterised gradient 4a².
    """

    def forward(self, x: Tensor) -> None:
        """x (N,): only its length is used, the number of independent draws."""
        with pyro.plate("data", len(x)):
            with poutine.mask(mask=False):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("cost", -(z**2))


class ExpectedSquareGuide(PyroModule):
    """z ~ N(aθ + b, 1), reparameterised or not."""

    def __init__(
        self, theta: float = 0.4, a: float = 2.0, b: float = 3.0, *, reparameterised: bool = True
    ) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))
        self.a, self.b, self.reparameterised = a, b, reparameterised

    def forward(self, x: Tensor) -> None:
        """Draw z (N,)."""
        normal = dist.Normal(self.a * self.theta + self.b, 1.0)
        with pyro.plate("data", len(x)), poutine.mask(mask=False):
            pyro.sample("z", normal if self.reparameterised else normal.has_rsample_(False))


class SquaredDistance(PyroModule):
    """E[(b − t)²] under b ~ Bernoulli(σ(φ)), the toy of REBAR (t = .45) and RELAX (t = .499)."""

    def __init__(self, target: float = 0.45) -> None:
        super().__init__()
        self.target = target

    def forward(self, x: Tensor) -> None:
        """x (N,): only its length is used, the number of independent draws."""
        with pyro.plate("data", len(x)):
            with poutine.mask(mask=False):
                b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.factor("cost", -((b - self.target) ** 2))


class SquaredDistanceGuide(PyroModule):
    """b ~ Bernoulli(σ(φ)): gradient (1 − 2t) σ(φ) σ(−φ)."""

    def __init__(self, logit: float = 0.0) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x: Tensor) -> None:
        """Draw b (N,)."""
        with pyro.plate("data", len(x)), poutine.mask(mask=False):
            pyro.sample("b", dist.Bernoulli(logits=self.logit))
