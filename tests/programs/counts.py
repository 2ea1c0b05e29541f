"""Counts: Poisson factors, exposure, too many zeros, overdispersion."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer import autoguide
from torch import nn

from tests.programs.registry import noise, program, uniform

N = 8


def table():
    return {"counts": (5 * uniform(N, 3)).floor()}


def factors(counts):
    with pyro.plate("features", 3):
        loading = pyro.sample("loading", dist.Gamma(torch.full((2,), 1.0), 1.0).to_event(1))
    with pyro.plate("data", N, subsample=counts):
        score = pyro.sample("score", dist.Gamma(torch.full((2,), 1.0), 1.0).to_event(1))
        pyro.sample("counts", dist.Poisson(score @ loading.T).to_event(1), obs=counts)


class FactorGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.score, self.loading = nn.Linear(3, 4), nn.Parameter(torch.zeros(3, 2))

    def forward(self, counts):
        pyro.module("factor_guide", self)
        with pyro.plate("features", 3):
            pyro.sample("loading", dist.LogNormal(self.loading, 0.2).to_event(1))
        with pyro.plate("data", N, subsample=counts):
            loc, log_scale = self.score(counts).chunk(2, -1)
            pyro.sample("score", dist.LogNormal(loc, log_scale.exp()).to_event(1))


@program(batch_size=4)
def poisson_factors():
    """Poisson factor analysis, amortised scores, minibatches."""
    guide = FactorGuide()
    return factors, guide, table(), guide


@program()
def poisson_exposure():
    """Poisson regression with exposure, AutoLowRankMultivariateNormal."""

    def model(x, exposure, counts):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", N, subsample=x):
            rate = exposure * torch.einsum("nd,d->n", x, w).exp()
            pyro.sample("counts", dist.Poisson(rate), obs=counts)

    guide = autoguide.AutoLowRankMultivariateNormal(model, rank=1)
    data = {"x": noise(N, 2), "exposure": 1 + uniform(N), "counts": table()["counts"][:, 0]}
    return model, guide, data, guide


@program()
def too_many_zeros():
    """Zero-inflated Poisson, AutoNormal."""

    def model(counts):
        gate = pyro.sample("gate", dist.Beta(1.0, 1.0))
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", N, subsample=counts):
            pyro.sample("counts", dist.ZeroInflatedPoisson(rate, gate=gate), obs=counts)

    guide = autoguide.AutoNormal(model)
    return model, guide, {"counts": table()["counts"][:, 0]}, guide


@program()
def overdispersed():
    """Gamma-Poisson counts of groups, in stacked tensors of parameters, AutoNormal."""

    def model(group, counts):
        shapes = [pyro.sample(f"shape_{g}", dist.LogNormal(0.0, 0.5)) for g in range(2)]
        shape = torch.stack(shapes, -1)[group]
        with pyro.plate("data", N, subsample=counts):
            pyro.sample("counts", dist.GammaPoisson(shape, 0.5), obs=counts)

    guide = autoguide.AutoNormal(model)
    return model, guide, {"group": torch.arange(N) % 2, "counts": table()["counts"][:, 0]}, guide


def conjugate(counts):
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    for i in pyro.plate("data", N):
        pyro.sample(f"counts_{i}", dist.Poisson(rate), obs=counts[i])


def conjugate_guide(counts):
    shape = pyro.param("shape", torch.tensor(3.0), constraint=constraints.positive)
    pyro.sample("rate", dist.Gamma(shape, pyro.param("speed", torch.tensor(1.5))))


@program()
def gamma_poisson():
    """One gamma rate of Poisson counts in a sequential plate, exact family as guide."""
    return conjugate, conjugate_guide, {"counts": table()["counts"][:, 0]}
