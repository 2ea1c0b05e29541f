"""A Gaussian mixture whose assignments TraceEnum_ELBO sums out (iris, 150 flowers)."""

import pyro
import pyro.distributions as dist
import torch
from pyro import infer, poutine
from sklearn.datasets import load_iris

from inference.recipes.contract import Recipe
from inference.recipes.contract import Training as Options


@infer.config_enumerate
def model(x):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    loc = pyro.sample("loc", dist.Normal(torch.zeros(3, 4), 1.0).to_event(2))
    scale = pyro.sample("scale", dist.LogNormal(torch.zeros(4), 1.0).to_event(1))
    with pyro.plate("data", 150, subsample=x):
        k = pyro.sample("k", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(loc[k], scale).to_event(1), obs=x)


def build(options: Options):
    x = torch.from_numpy(load_iris().data).float()
    guide = infer.autoguide.AutoNormal(poutine.block(model, hide=["k"]))
    estimator = infer.TraceEnum_ELBO(max_plate_nesting=1)
    return Recipe(model, guide, {"x": (x - x.mean(0)) / x.std(0)}, estimator=estimator)
