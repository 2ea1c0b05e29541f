"""Regressions: one by many autoguides, by hand, by modules with priors, and with other likelihoods.

Like Pyro's tutorials "Bayesian regression I and II", "SVI with a normalizing flow guide" and the
example ``baseball``'s relatives.
"""

import functools

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.distributions.transforms import affine_autoregressive, iterated
from pyro.infer import autoguide
from pyro.nn import PyroModule, PyroSample
from torch import nn

from tests.programs.registry import noise, program

N = 12


def line():
    x = noise(N, 2)
    return {"x": x, "y": x @ torch.tensor([1.0, -0.5]) + 0.3 + 0.4 * noise(N, seed=1)}


def regression(x, y):
    slope = pyro.sample("slope", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    offset = pyro.sample("offset", dist.Normal(0.0, 2.0))
    width = pyro.sample("width", dist.LogNormal(0.0, 0.5))
    with pyro.plate("data", N, subsample=x):
        pyro.sample("y", dist.Normal(x @ slope + offset, width), obs=y)


def by(guide):
    """The regression with one of Pyro's autoguides."""
    return regression, guide, line(), guide


@program()
def regression_delta():
    """Regression, AutoDelta (maximum a posteriori)."""
    return by(autoguide.AutoDelta(regression))


@program()
def regression_normal():
    """Regression, AutoNormal."""
    return by(autoguide.AutoNormal(regression))


@program()
def regression_diagonal():
    """Regression, AutoDiagonalNormal."""
    return by(autoguide.AutoDiagonalNormal(regression))


@program()
def regression_multivariate():
    """Regression, AutoMultivariateNormal."""
    return by(autoguide.AutoMultivariateNormal(regression))


@program()
def regression_low_rank():
    """Regression, AutoLowRankMultivariateNormal."""
    return by(autoguide.AutoLowRankMultivariateNormal(regression, rank=2))


@program()
def regression_iaf():
    """Regression, AutoIAFNormal."""
    return by(autoguide.AutoIAFNormal(regression, hidden_dim=[5]))


@program()
def regression_laplace():
    """Regression, AutoLaplaceApproximation."""
    return by(autoguide.AutoLaplaceApproximation(regression))


@program()
def regression_flow():
    """Regression, AutoNormalizingFlow of two autoregressive layers."""
    layers = functools.partial(iterated, 2, affine_autoregressive, hidden_dims=[5])
    return by(autoguide.AutoNormalizingFlow(regression, layers))


@program()
def regression_structured():
    """Regression, AutoStructured with a linear dependency."""
    conditionals = {"slope": "mvn", "offset": "normal", "width": "delta"}
    dependencies = {"offset": {"slope": "linear"}}
    guide = autoguide.AutoStructured(
        regression, conditionals=conditionals, dependencies=dependencies
    )
    return by(guide)


@program()
def regression_gaussian():
    """Regression, AutoGaussian (dense)."""
    return by(autoguide.AutoGaussian(regression, backend="dense"))


@program()
def regression_guide_list():
    """Regression, AutoGuideList of AutoDelta and AutoDiagonalNormal."""
    guide = autoguide.AutoGuideList(regression)
    guide.append(autoguide.AutoDelta(poutine.block(regression, expose=["width"])))
    guide.append(autoguide.AutoDiagonalNormal(poutine.block(regression, hide=["width"])))
    return by(guide)


def terrain(rugged, africa, gdp):
    a = pyro.sample("a", dist.Normal(0.0, 5.0))
    effect = pyro.sample("effect_africa", dist.Normal(0.0, 1.0))
    slope = pyro.sample("effect_rugged", dist.Normal(0.0, 1.0))
    both = pyro.sample("effect_both", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
    mean = a + effect * africa + slope * rugged + both * africa * rugged
    with pyro.plate("data", len(gdp)):
        pyro.sample("gdp", dist.Normal(mean, sigma), obs=gdp)


def terrain_guide(rugged, africa, gdp):
    place = pyro.param("place", torch.tensor([1.0, 0.1, 0.2, -0.1]))
    width = pyro.param("width", torch.full((4,), 0.3), constraint=constraints.positive)
    names = ("a", "effect_africa", "effect_rugged", "effect_both")
    for i, name in enumerate(names):
        pyro.sample(name, dist.Normal(place[i], width[i]))
    edge = pyro.param("sigma_loc", torch.tensor(0.7), constraint=constraints.positive)
    pyro.sample("sigma", dist.Normal(edge, 0.05))


@program()
def ruggedness():
    """Terrain ruggedness: interaction of two covariates, guide by hand."""
    rugged, africa = uniform_columns()
    gdp = 8.0 - africa + 0.3 * africa * rugged + 0.3 * noise(N, seed=2)
    return terrain, terrain_guide, {"rugged": rugged, "africa": africa, "gdp": gdp}


def uniform_columns():
    return noise(N).abs(), (torch.arange(N) % 2).to(torch.get_default_dtype())


def correlated_guide(x, y):
    loc = pyro.param("loc", torch.tensor([0.5, 0.1, 0.2]))
    tril = pyro.param("tril", 0.2 * torch.eye(3), constraint=constraints.lower_cholesky)
    joint = dist.MultivariateNormal(loc, scale_tril=tril)
    z = pyro.sample("z", joint, infer={"is_auxiliary": True})
    pyro.sample("slope", dist.Delta(z[:2]).to_event(1))
    pyro.sample("offset", dist.Delta(z[2]))
    log_width = pyro.param("log_width", torch.tensor(-0.5))
    pyro.sample("width", dist.LogNormal(log_width, 0.1))


@program()
def regression_auxiliary():
    """Regression, guide that draws all weights together as an auxiliary variable."""
    return regression, correlated_guide, line()


class BayesianRegression(PyroModule):
    def __init__(self, features=2):
        super().__init__()
        self.linear = PyroModule[nn.Linear](features, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, features]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))

    def forward(self, x, y=None):
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal(mean, sigma), obs=y)
        return mean


@program()
def bayesian_regression():
    """PyroModule[nn.Linear] with PyroSample weights, AutoDiagonalNormal."""
    model = BayesianRegression()
    guide = autoguide.AutoDiagonalNormal(model)
    return model, guide, line(), model, guide


class BayesianMLP(PyroModule):
    def __init__(self):
        super().__init__()
        self.hidden = PyroModule[nn.Linear](2, 3)
        self.hidden.weight = PyroSample(dist.Normal(0.0, 1.0).expand([3, 2]).to_event(2))
        self.last = PyroModule[nn.Linear](3, 1)
        self.log_noise = nn.Parameter(torch.tensor(-1.0))

    def forward(self, x, y=None):
        mean = self.last(torch.tanh(self.hidden(x))).squeeze(-1)
        with pyro.plate("data", N, subsample=x):
            pyro.sample("y", dist.Normal(mean, self.log_noise.exp()), obs=y)


@program(batch_size=5)
def bayesian_network_layer():
    """Neural network, one layer of random and one of trained weights, minibatches."""
    model = BayesianMLP()
    guide = autoguide.AutoNormal(model, init_scale=0.05)
    return model, guide, line(), model, guide


def logistic(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", N, subsample=x):
        pyro.sample("y", dist.Bernoulli(logits=(x * w).sum(-1)), obs=y)


def logistic_guide(x, y):
    loc = pyro.param("loc", torch.zeros(2))
    scale = pyro.param("scale", torch.ones(2), constraint=constraints.softplus_positive)
    pyro.sample("w", dist.Normal(loc, scale).to_event(1))


@program(batch_size=4)
def logistic_regression():
    """Logistic regression, mean-field guide by hand, minibatches."""
    x = noise(N, 2)
    return logistic, logistic_guide, {"x": x, "y": (x.sum(-1) > 0).to(x)}


def robust(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    freedom = pyro.sample("freedom", dist.Gamma(2.0, 0.5))
    with pyro.plate("data", N, subsample=x):
        pyro.sample("y", dist.StudentT(1 + freedom, x @ w, 0.4), obs=y)


@program()
def robust_regression():
    """Student-t likelihood with unknown degrees of freedom, AutoNormal."""
    guide = autoguide.AutoNormal(robust)
    return robust, guide, line(), guide


def ordinal(x, grade):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    first = pyro.sample("first", dist.Normal(-1.0, 0.5))
    gaps = pyro.sample("gaps", dist.LogNormal(torch.zeros(2), 0.3).to_event(1))
    cuts = torch.cat([first[..., None], first[..., None] + gaps.cumsum(-1)], -1)
    with pyro.plate("data", N, subsample=x):
        pyro.sample("grade", dist.OrderedLogistic((x * w).sum(-1), cuts), obs=grade)


@program()
def ordinal_regression():
    """Ordered logistic regression with unknown cut points, AutoDiagonalNormal."""
    x = noise(N, 2)
    grade = torch.bucketize(x.sum(-1), torch.tensor([-1.0, 0.0, 1.0]))
    guide = autoguide.AutoDiagonalNormal(ordinal)
    return ordinal, guide, {"x": x, "grade": grade}, guide


def probit(x, y):
    w = pyro.sample("w", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
    with pyro.plate("data", N, subsample=x):
        latent = dist.Normal(0.0, 1.0).cdf((x * w).sum(-1)).clamp(1e-6, 1 - 1e-6)
        pyro.sample("y", dist.Bernoulli(latent), obs=y)


@program()
def probit_regression():
    """Probit regression, AutoMultivariateNormal."""
    x = noise(N, 2)
    guide = autoguide.AutoMultivariateNormal(probit)
    return probit, guide, {"x": x, "y": (x[:, 0] > 0).to(x)}, guide


def horseshoe(x, y):
    overall = pyro.sample("overall", dist.HalfCauchy(1.0))
    with pyro.plate("features", 3):
        local = pyro.sample("local", dist.HalfCauchy(1.0))
        w = pyro.sample("w", dist.Normal(0.0, overall * local))
    with pyro.plate("data", N, subsample=x):
        pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


@program()
def sparse_regression():
    """Horseshoe prior on a plate of features, AutoNormal."""
    x = noise(N, 3)
    guide = autoguide.AutoNormal(horseshoe)
    return horseshoe, guide, {"x": x, "y": x[:, 0] + 0.5 * noise(N, seed=1)}, guide
