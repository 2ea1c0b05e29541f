"""Normalising flows: densities of data by maximum likelihood, and flows inside a guide.

Like Pyro's tutorials "Normalizing flows" and its flow guides.
"""

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
from pyro.infer import autoguide
from pyro.nn import PyroModule
from torch import nn

from tests.programs.registry import noise, program

N = 8


def moons():
    x = noise(N, 2)
    return {"x": torch.stack([x[:, 0], 0.3 * x[:, 0] ** 2 + 0.2 * x[:, 1]], -1)}


def nothing(x):
    """The guide of a program without latents."""


class Flow(PyroModule):
    """A flow from a normal with a learned centre: its own cache meets other parameters."""

    def __init__(self, transform):
        super().__init__()
        self.transform, self.loc = transform, nn.Parameter(torch.zeros(2))

    def forward(self, x):
        if hasattr(self.transform, "clear_cache"):
            self.transform.clear_cache()
        start = dist.Normal(self.loc, torch.ones(2)).to_event(1)
        with pyro.plate("data", N, subsample=x):
            pyro.sample("x", dist.TransformedDistribution(start, [self.transform]), obs=x)


@program()
def flow_coupling():
    """Density by spline coupling, all rows a step, the cache cleared by the model."""
    model = Flow(T.spline_coupling(2, count_bins=4, hidden_dims=[4]))
    return model, nothing, moons(), model


@program(batch_size=4)
def flow_minibatch():
    """Density by an affine coupling, minibatches."""
    model = Flow(T.affine_coupling(2, hidden_dims=[4]))
    return model, nothing, moons(), model


@program(batch_size=4)
def flow_autoregressive():
    """Density by an autoregressive spline, minibatches."""
    model = Flow(T.spline_autoregressive(2, hidden_dims=[4], count_bins=3))
    return model, nothing, moons(), model


class Stack(PyroModule):
    """Several elementwise and mixing layers, nothing cleared."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([T.spline(2, count_bins=4), T.affine_coupling(2, [4])])

    def forward(self, x):
        start = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
        flow = dist.TransformedDistribution(start, list(self.parts))
        with pyro.plate("data", N, subsample=x):
            pyro.sample("x", flow, obs=x)
        flow.clear_cache()


@program()
def flow_stack():
    """Density by a stack of flows, the cache cleared after use, all rows a step."""
    model = Stack()
    return model, nothing, moons(), model


class ConditionalFlow(nn.Module):
    def __init__(self):
        super().__init__()
        self.flow = T.conditional_affine_coupling(2, context_dim=1, hidden_dims=[4])

    def model(self, x, given):
        pyro.module("conditional_flow", self)
        start = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
        flow = dist.conditional.ConditionalTransformedDistribution(start, [self.flow])
        with pyro.plate("data", N, subsample=x):
            pyro.sample("x", flow.condition(given), obs=x)


@program(batch_size=4)
def flow_conditional():
    """Density given a covariate, as a bound method."""
    net = ConditionalFlow()
    return net.model, lambda x, given: None, moons() | {"given": noise(N, 1, seed=1)}, net


class PlanarGuide(nn.Module):
    """q(z) is a normal through one planar layer."""

    def __init__(self):
        super().__init__()
        self.planar, self.loc = T.planar(2), nn.Parameter(torch.zeros(2))

    def forward(self, x):
        pyro.module("planar_guide", self)
        start = dist.Normal(self.loc, 0.5 * torch.ones(2)).to_event(1)
        pyro.sample("z", dist.TransformedDistribution(start, [self.planar]))


def banana(x):
    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", N, subsample=x):
        pyro.sample("x", dist.Normal(z[0] + z[1] ** 2, 1.0), obs=x[:, 1])


@program()
def planar_guide():
    """Guide that is a planar flow, by hand."""
    guide = PlanarGuide()
    return banana, guide, moons(), guide


@program()
def neutra_guide():
    """Guide that is an inverse autoregressive flow of two layers (AutoIAFNormal)."""
    guide = autoguide.AutoIAFNormal(banana, hidden_dim=[4], num_transforms=2)
    return banana, guide, moons(), guide
