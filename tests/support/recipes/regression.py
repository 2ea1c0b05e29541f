"""Bayesian linear regression, written as plain functions with pyro.param (diabetes data)."""

import pyro
import pyro.distributions as dist
import torch
from sklearn.datasets import load_diabetes

from inference.recipes.contract import Recipe
from inference.recipes.contract import Training as Options


def model(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(10), 1.0).to_event(1))
    sigma = pyro.sample("sigma", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", 442, subsample=x):
        pyro.sample("y", dist.Normal((w * x).sum(-1), sigma), obs=y)


def guide(x, y):
    loc = pyro.param("loc", torch.zeros(11))
    scale = pyro.param("scale", 0.1 * torch.ones(11), dist.constraints.positive)
    pyro.sample("w", dist.Normal(loc[..., :10], scale[..., :10]).to_event(1))
    pyro.sample("sigma", dist.LogNormal(loc[..., 10], scale[..., 10]))


def build(options: Options):
    x, y = (torch.from_numpy(a).float() for a in load_diabetes(return_X_y=True))
    return Recipe(model, guide, {"x": x / x.std(0), "y": (y - y.mean()) / y.std()})
