"""Pooled effects of groups, and the same programs under reparameterising handlers.

Like Pyro's examples ``baseball``, ``eight_schools`` and its tutorials on reparameterisation.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import autoguide
from pyro.infer.reparam import LocScaleReparam, TransformReparam

from tests.programs.registry import noise, program, uniform


def schools_data():
    y = torch.tensor([20.0, 5.0, -4.0, 9.0, 1.0, 3.0, 16.0, 11.0])
    return {"y": y, "sigma": 10 + 8 * uniform(8)}


def schools(y, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


@program()
def eight_schools():
    """Eight schools, centred, AutoNormal."""
    guide = autoguide.AutoNormal(schools)
    return schools, guide, schools_data(), guide


@program()
def eight_schools_decentred():
    """Eight schools under LocScaleReparam with a learned centring."""
    model = poutine.reparam(schools, config={"theta": LocScaleReparam()})
    guide = autoguide.AutoNormal(model)
    return model, guide, schools_data(), guide


@program()
def eight_schools_noncentred():
    """Eight schools under LocScaleReparam(0), AutoMultivariateNormal."""
    model = poutine.reparam(schools, config={"theta": LocScaleReparam(0.0)})
    guide = autoguide.AutoMultivariateNormal(model)
    return model, guide, schools_data(), guide


def schools_transformed(y, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        affine = dist.transforms.AffineTransform(mu, tau)
        theta = pyro.sample(
            "theta", dist.TransformedDistribution(dist.Normal(torch.zeros(8), 1.0), affine)
        )
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


@program()
def eight_schools_transformed():
    """Eight schools under TransformReparam, AutoDiagonalNormal."""
    model = poutine.reparam(schools_transformed, config={"theta": TransformReparam()})
    guide = autoguide.AutoDiagonalNormal(model)
    return model, guide, schools_data(), guide


def schools_guide(y, sigma):
    loc = pyro.param("loc", torch.zeros(8))
    scale = pyro.param("scale", torch.full((8,), 2.0), constraint=constraints.positive)
    mu = pyro.param("mu_loc", torch.tensor(1.0))
    pyro.sample("mu", dist.Normal(mu, 0.5))
    pyro.sample("tau", dist.LogNormal(pyro.param("tau_loc", torch.tensor(1.0)), 0.2))
    with pyro.plate("schools", 8):
        pyro.sample("theta", dist.Normal(loc, scale))


@program()
def eight_schools_by_hand():
    """Eight schools, mean-field guide by hand."""
    return schools, schools_guide, schools_data()


def batting(at_bats, hits):
    m = pyro.sample("m", dist.Uniform(0.0, 1.0))
    kappa = pyro.sample("kappa", dist.Pareto(1.0, 1.5))
    with pyro.plate("players", 6, subsample=hits):
        phi = pyro.sample("phi", dist.Beta(m * kappa, (1 - m) * kappa))
        pyro.sample("hits", dist.Binomial(at_bats, phi), obs=hits)


@program()
def baseball():
    """Batting averages, partially pooled, AutoNormal."""
    guide = autoguide.AutoNormal(batting)
    hits = torch.tensor([18.0, 17.0, 12.0, 10.0, 8.0, 7.0])
    return batting, guide, {"at_bats": torch.full((6,), 45.0), "hits": hits}, guide


def radon(county, floor, y):
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("counties", 3):
        effect = pyro.sample("effect", dist.Normal(mu, 0.5).to_event(1))
    sigma = pyro.sample("sigma", dist.Exponential(1.0))
    with pyro.plate("houses", 10, subsample=y):
        mean = effect[county, 0] + effect[county, 1] * floor
        pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def houses():
    county, floor = torch.arange(10) % 3, (uniform(10) < 0.5).to(torch.get_default_dtype())
    return {"county": county, "floor": floor, "y": 0.5 * county - floor + 0.3 * noise(10)}


@program(batch_size=5)
def varying_slopes():
    """Radon: offsets and slopes of counties, indexed by house, minibatches."""
    guide = autoguide.AutoNormal(radon)
    return radon, guide, houses(), guide


def correlated(county, floor, y):
    scale = pyro.sample("scale", dist.LogNormal(torch.zeros(2), 0.3).to_event(1))
    corr = pyro.sample("corr", dist.LKJCholesky(2, 1.0))
    tril = scale[..., None] * corr
    with pyro.plate("counties", 3):
        effect = pyro.sample("effect", dist.MultivariateNormal(torch.zeros(2), scale_tril=tril))
    with pyro.plate("houses", 10, subsample=y):
        mean = effect[county, 0] + effect[county, 1] * floor
        pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


@program()
def correlated_slopes():
    """Radon: offsets and slopes with an LKJ prior of their correlation."""
    guide = autoguide.AutoNormal(correlated)
    return correlated, guide, houses(), guide


def nested(y):
    with pyro.plate("schools", 3, dim=-2):
        school = pyro.sample("school", dist.Normal(0.0, 1.0))
    with pyro.plate("years", 4, dim=-1):
        year = pyro.sample("year", dist.Normal(0.0, 0.5))
    with pyro.plate("schools_", 3, dim=-2), pyro.plate("years_", 4, dim=-1):
        pyro.sample("y", dist.Normal(school + year, 0.5), obs=y)


@program()
def crossed_effects():
    """Two crossed plates of effects, AutoDiagonalNormal."""
    guide = autoguide.AutoDiagonalNormal(nested)
    return nested, guide, {"y": noise(3, 4)}, guide


def traits(y):
    factor = pyro.sample("factor", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    with pyro.plate("data", 6, subsample=y):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z @ factor, 0.5).to_event(1), obs=y)


@program()
def factor_analysis():
    """Factor analysis with latents of each row, all rows a step, AutoNormal."""
    guide = autoguide.AutoNormal(traits)
    return traits, guide, {"y": noise(6, 3)}, guide


@program(batch_size=3)
def factor_analysis_minibatch():
    """Factor analysis in minibatches: an autoguide whose plate is given by create_plates."""

    def model(row, y):
        factor = pyro.sample("factor", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
        with pyro.plate("data", 6, subsample=row):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(z @ factor, 0.5).to_event(1), obs=y)

    def plates(row, y):
        return pyro.plate("data", 6, subsample=row)

    guide = autoguide.AutoNormal(model, create_plates=plates)
    return model, guide, {"row": torch.arange(6), "y": noise(6, 3)}, guide
