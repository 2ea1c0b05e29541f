"""Small programs with known answers, shared by the tests."""

import math

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import nn

positive = dist.constraints.positive


BIT_DATA = torch.tensor([0.4, -1.2], dtype=torch.float64)


def bit_model(phi, theta):
    """b_n ~ Bernoulli(0.3), x_n ~ N(θ b_n, 0.7)."""
    with pyro.plate("data", 2):
        b = pyro.sample("b", dist.Bernoulli(0.3).expand([2]))
        pyro.sample("x", dist.Normal(theta * b, 0.7), obs=BIT_DATA)


def bit_guide(phi, theta):
    """q(b_n | x_n) = Bernoulli(σ(φ x_n))."""
    with pyro.plate("data", 2):
        pyro.sample("b", dist.Bernoulli(logits=phi * BIT_DATA))


class LocalModel(PyroModule):
    """z_n ~ N(m, 1), x_n ~ N(z_n, 1) with m learned: log p(x_n) = log N(x_n; m, 2)."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.m = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        with pyro.plate("data", self.size, subsample=x):
            z = pyro.sample("z", dist.Normal(self.m, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class LocalGuide(PyroModule):
    """q(z | x) = N(a x + b, s²); exact for a = 1/2, b = m/2, s² = 1/2."""

    def __init__(self, size, a=0.1, b=0.2, s=0.8):
        super().__init__()
        self.size = size
        self.a = nn.Parameter(torch.tensor(a))
        self.b = nn.Parameter(torch.tensor(b))
        self.s = PyroParam(torch.tensor(s), positive)

    def forward(self, x):
        with pyro.plate("data", self.size, subsample=x):
            pyro.sample("z", dist.Normal(self.a * x + self.b, self.s))


def local(size=40):
    """The pair above and its data."""
    x = torch.randn(size) * 1.5 + 1
    return LocalModel(size), LocalGuide(size), {"x": x}


def exact_local_guide(size, m=0.3):
    """The posterior of ``LocalModel``."""
    return LocalGuide(size, a=0.5, b=m / 2, s=math.sqrt(0.5))


def global_only(size=40):
    """w ~ N(0, 1), x_n ~ N(w, 1), as plain functions with pyro.param."""
    x = torch.randn(size) + 2

    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", size, subsample=x):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.5))
        scale = pyro.param("scale", torch.tensor(0.4), positive)
        pyro.sample("w", dist.Normal(loc, scale))

    return model, guide, {"x": x}


def both(size=40):
    """w ~ N(0, 1), z_n ~ N(w, 1), x_n ~ N(z_n, 1): a global and a local latent."""
    x = torch.randn(size) + 2

    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", size, subsample=x):
            z = pyro.sample("z", dist.Normal(w, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        w_loc = pyro.param("w_loc", torch.tensor(0.5))
        pyro.sample("w", dist.Normal(w_loc, 0.3))
        a = pyro.param("a", torch.tensor(0.4))
        with pyro.plate("data", size, subsample=x):
            pyro.sample("z", dist.Normal(a * x, 0.7))

    return model, guide, {"x": x}


class Bits(PyroModule):
    """x_n ~ N(w b_n, 1), b_n a bit; the guide's network has batch normalisation."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        with pyro.plate("data", 40, subsample=x):
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(self.w * b, 1.0), obs=x)


class Guess(PyroModule):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.linear = nn.Linear(1, 1)

    def forward(self, x):
        with pyro.plate("data", 40, subsample=x):
            logits = self.linear(self.norm(x[:, None]))[:, 0]
            pyro.sample("b", dist.Bernoulli(logits=logits))


PROGRAMS = {"local": local, "global": global_only, "both": both}
