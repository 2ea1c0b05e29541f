"""Gaussian processes: one multivariate normal by hand, and those of pyro.contrib.gp."""

import pyro
import pyro.contrib.gp as gp
import pyro.distributions as dist
import torch
from pyro.infer import autoguide
from pyro.nn import PyroSample

from tests.programs.registry import noise, program

N = 6


def curve():
    x = torch.linspace(-1, 1, N)
    return {"x": x, "y": (3 * x).sin() + 0.1 * noise(N)}


@program()
def gp_by_hand():
    """Gaussian process as one multivariate normal, AutoNormal for its length and height."""

    def model(x, y):
        length = pyro.sample("length", dist.LogNormal(0.0, 0.5))
        height = pyro.sample("height", dist.LogNormal(0.0, 0.5))
        gaps = (x[:, None] - x) / length
        cov = height * (-0.5 * gaps**2).exp() + 0.1 * torch.eye(N)
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(N), cov), obs=y)

    guide = autoguide.AutoNormal(model)
    return model, guide, curve(), guide


@program()
def gp_latent():
    """Gaussian process as a latent function of binary data, AutoMultivariateNormal."""

    def model(x, y):
        cov = (-2 * (x[:, None] - x) ** 2).exp() + 1e-3 * torch.eye(N)
        f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(N), cov))
        with pyro.plate("data", N):
            pyro.sample("y", dist.Bernoulli(logits=f), obs=y)

    guide = autoguide.AutoMultivariateNormal(model)
    data = curve()
    return model, guide, data | {"y": (data["y"] > 0).to(data["y"])}, guide


def programs_of(process):
    """Model and guide of one of Pyro's Gaussian processes."""

    def model(x, y):
        process.set_data(x, y)
        process.model()

    def guide(x, y):
        process.guide()

    return model, guide


@program()
def gp_regression():
    """GPRegression of pyro.contrib.gp, maximum likelihood."""
    start = curve()
    process = gp.models.GPRegression(start["x"], start["y"], gp.kernels.RBF(1))

    return *programs_of(process), start, process


@program()
def gp_regression_priors():
    """GPRegression with a prior of its length scale and the library's own guide."""
    start = curve()
    kernel = gp.kernels.RBF(1)
    kernel.lengthscale = PyroSample(dist.LogNormal(torch.tensor(0.0), torch.tensor(0.5)))
    process = gp.models.GPRegression(start["x"], start["y"], kernel)
    kernel.autoguide("lengthscale", dist.Normal)

    return *programs_of(process), start, process


@program()
def gp_variational():
    """VariationalSparseGP of pyro.contrib.gp: three inducing points."""
    data = curve()
    y = (data["y"] > 0).to(data["y"])
    process = gp.models.VariationalSparseGP(
        data["x"], y, gp.kernels.RBF(1), torch.linspace(-1, 1, 3), gp.likelihoods.Gaussian()
    )

    return *programs_of(process), data | {"y": y}, process
