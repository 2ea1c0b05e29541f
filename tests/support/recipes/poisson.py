"""Poisson regression of a csv file's column "count" on its other columns."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoMultivariateNormal

from inference.data.sources import covariates
from inference.recipes.contract import Recipe, Training


@dataclass(frozen=True, kw_only=True)
class Options(Training):
    """count ~ Poisson(exp(x · w)), w ~ N(0, I)."""

    data: str


def build(options):
    x, count = covariates(options.data, "count")
    n, d = x.shape

    def model(x, count):
        w = pyro.sample("w", dist.Normal(torch.zeros(d), 1.0).to_event(1))
        with pyro.plate("data", n, subsample=x):
            pyro.sample("count", dist.Poisson((w * x).sum(-1).exp()), obs=count)

    return Recipe(model, AutoMultivariateNormal(model), {"x": x, "count": count})
