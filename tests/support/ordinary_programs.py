"""Programs as people write them: many treat no leading dimension as one of draws.

``PROGRAMS[name]()`` is a model, a guide and columns; parameters are where training might be.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalMessenger,
)
from pyro.infer.reparam import LocScaleReparam, TransformReparam
from pyro.nn import PyroModule
from torch import nn

from tests.programs.linear import BayesianRegression

N = 12
PROGRAMS = {}


def program(fn):
    PROGRAMS[fn.__name__] = fn
    return fn


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def data(x, size=N):
    return pyro.plate("data", size, subsample=x)


def linear_data():
    x = numbers(N, 3)
    return {"x": x, "y": x @ torch.tensor([0.5, -1.0, 0.3]) + 0.5 * numbers(N, seed=1)}


@program
def matmul():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with data(x):
            pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    return model, AutoDiagonalNormal(model), linear_data()


@program
def keeps_leading_dimensions():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with data(x):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)

    return model, AutoNormal(model), linear_data()


@program
def indexed_groups():
    def model(k, y):
        with pyro.plate("groups", 4):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with data(y):
            pyro.sample("y", dist.Normal(a[k], 0.5), obs=y)

    return model, AutoNormal(model), {"k": torch.arange(N) % 4, "y": numbers(N)}


@program
def entries_of_a_vector():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        s = pyro.sample("s", dist.LogNormal(0.0, 0.3))
        with data(x):
            pyro.sample("y", dist.Normal(w[0] + w[1] * x, s), obs=y)

    return model, AutoMultivariateNormal(model), {"x": numbers(N), "y": numbers(N, seed=1)}


@program
def stacked_scalars():
    def model(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with data(y):
            pyro.sample("y", dist.Normal(torch.stack([a, b]), 0.5).to_event(1), obs=y)

    return model, AutoNormal(model), {"y": numbers(N, 2)}


@program
def softmax_over_the_first():
    def model(x, y):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        w = torch.softmax(z, 0)
        with data(x):
            pyro.sample("y", dist.Normal((w * x).sum(-1), 0.5), obs=y)

    return model, AutoNormal(model), linear_data()


@program
def sum_of_all():
    def model(y):
        with pyro.plate("parts", 3):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with data(y):
            pyro.sample("y", dist.Normal(w.sum(), 0.5), obs=y)

    return model, AutoNormal(model), {"y": numbers(N)}


@program
def covariance():
    def model(y):
        loc = pyro.sample("loc", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        s = pyro.sample("s", dist.LogNormal(torch.zeros(2), 0.3).to_event(1))
        tril = torch.diag(s) + torch.tensor([[0.0, 0.0], [0.3, 0.0]])
        with data(y):
            pyro.sample("y", dist.MultivariateNormal(loc, scale_tril=tril), obs=y)

    return model, AutoLowRankMultivariateNormal(model, rank=1), {"y": numbers(N, 2)}


@program
def correlations():
    def model(y):
        tril = pyro.sample("tril", dist.LKJCholesky(2, torch.tensor(1.5)))
        with data(y):
            pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), scale_tril=tril), obs=y)

    return model, AutoNormal(model), {"y": numbers(N, 2)}


@program
def lstm():
    torch.manual_seed(0)
    network = nn.LSTM(2, 3, batch_first=True)

    def model(y):
        pyro.module("lstm", network)
        with data(y):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            shifted = torch.cat([torch.zeros(len(y), 1, 2), y[:, :-1]], 1)
            hidden, _ = network(shifted, (z[None], torch.zeros(1, len(y), 3)))
            pyro.sample("y", dist.Normal(hidden[..., :2], 0.5).to_event(2), obs=y)

    def guide(y):
        loc = pyro.param("loc", 0.1 * torch.ones(3))
        with data(y):
            pyro.sample("z", dist.Normal(loc, 0.7).to_event(1))

    return model, guide, {"y": numbers(N, 4, 2)}


@program
def sequential_plate():
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        for i in pyro.plate("data", N):
            pyro.sample(f"y_{i}", dist.Normal(m, 1.0), obs=y[i])

    return model, AutoNormal(model), {"y": numbers(N)}


@program
def sequential_plate_with_latents():
    def model(y):
        for i in pyro.plate("data", N):
            z = pyro.sample(f"z{i}", dist.Normal(0.0, 1.0))
            pyro.sample(f"y{i}", dist.Normal(z, 1.0), obs=y[i])

    def guide(y):
        a = pyro.param("a", torch.tensor(0.4))
        for i in pyro.plate("data", N):
            pyro.sample(f"z{i}", dist.Normal(a * y[i], 0.7))

    return model, guide, {"y": numbers(N)}


@program
def markov_chain():
    def model(y):
        with data(y):
            z = 0.0
            for t in pyro.markov(range(3)):
                z = pyro.sample(f"z_{t}", dist.Normal(0.8 * z, 1.0))
                pyro.sample(f"y_{t}", dist.Normal(z, 0.5), obs=y[:, t])

    def guide(y):
        a = pyro.param("a", torch.tensor(0.6))
        with data(y):
            for t in pyro.markov(range(3)):
                pyro.sample(f"z_{t}", dist.Normal(a * y[:, t], 0.5))

    return model, guide, {"y": numbers(N, 3)}


@program
def eight_schools_reparameterised():
    @poutine.reparam(config={"theta": LocScaleReparam(0.0)})
    def model(y, s):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with data(y):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, s), obs=y)

    return model, AutoNormal(model, init_scale=0.1), {"y": numbers(N), "s": numbers(N).exp()}


@program
def transform_reparameterised():
    lognormal = dist.TransformedDistribution(
        dist.Normal(0.0, 1.0), [dist.transforms.AffineTransform(0.5, 0.3)]
    )

    @poutine.reparam(config={"s": TransformReparam()})
    def model(y):
        s = pyro.sample("s", lognormal)
        with data(y):
            pyro.sample("y", dist.Normal(s, 1.0), obs=y)

    return model, AutoDiagonalNormal(model), {"y": numbers(N)}


@program
def imputed():
    def model(y, seen):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with data(y):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y, obs_mask=seen)

    def guide(y, seen):
        loc = pyro.param("loc", torch.tensor(0.2))
        pyro.sample("m", dist.Normal(loc, 0.3))
        with data(y), poutine.mask(mask=~seen):
            pyro.sample("y_unobserved", dist.Normal(loc, 1.0))

    return model, guide, {"y": numbers(N), "seen": torch.arange(N) % 3 > 0}


@program
def deterministic_values():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.deterministic("length", (w**2).sum().sqrt())
        pyro.deterministic("double", 2 * w)
        with data(x):
            mean = pyro.deterministic("mean", x @ w)
            pyro.deterministic("product", x * w, event_dim=1)
            pyro.sample("y", dist.Normal(mean, 0.5), obs=y)

    return model, AutoNormal(model), linear_data()


@program
def deterministic_values_together():
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2 * m)
        with data(y):
            z = pyro.sample("z", dist.Normal(m, 1.0))
            pyro.deterministic("gap", z - m)
            pyro.sample("y", dist.Normal(z, 0.5), obs=y)

    def guide(y):
        loc = pyro.param("loc", torch.tensor(0.2))
        pyro.sample("m", dist.Normal(loc, 0.3))
        with data(y):
            pyro.sample("z", dist.Normal(0.5 * y, 0.6))

    return model, guide, {"y": numbers(N)}


@program
def factors():
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.factor("penalty", -0.5 * m**2)
        with data(y):
            pyro.factor("tilt", 0.1 * m * y)
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    return model, AutoNormal(model), {"y": numbers(N)}


@program
def masked_rows():
    def model(y, seen):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with data(y), poutine.mask(mask=seen):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    return model, AutoNormal(model), {"y": numbers(N), "seen": torch.arange(N) % 4 > 0}


@program
def masked_entries():
    def model(y, seen):
        with pyro.plate("columns", 3, dim=-1):
            v = pyro.sample("v", dist.Normal(0.0, 1.0))
            with pyro.plate("data", N, dim=-2), poutine.mask(mask=seen):
                pyro.sample("y", dist.Normal(v, 1.0), obs=y)

    return model, AutoNormal(model), {"y": numbers(N, 3), "seen": numbers(N, 3, seed=1) > 0}


@program
def masked_distribution():
    def model(y, seen):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with data(y):
            pyro.sample("y", dist.Normal(m, 1.0).mask(seen), obs=y)

    return model, AutoNormal(model), {"y": numbers(N), "seen": torch.arange(N) % 4 > 0}


@program
def scaled():
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with data(y), poutine.scale(scale=3.0):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    return model, AutoNormal(model), {"y": numbers(N)}


@program
def subsampling_by_itself(size=5):
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", N, subsample_size=size) as rows:
            pyro.sample("y", dist.Normal(m, 1.0), obs=y[rows])

    return model, AutoNormal(model), {"y": numbers(N)}


@program
def subsampled_local_latents(size=5):
    def rows():
        return pyro.plate("data", N, subsample_size=size)

    def model(y):
        with rows() as i:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[i])

    def guide(y):
        loc = pyro.param("loc", 0.3 * y)
        with rows() as i:
            pyro.sample("z", dist.Normal(loc[i], 0.6))

    return model, guide, {"y": numbers(N)}


@program
def subsampled_features(size=2):
    def model(y):
        with pyro.plate("features", 6, subsample_size=size, dim=-1) as chosen:
            m = pyro.sample("m", dist.Normal(0.0, 1.0))
            with pyro.plate("data", N, dim=-2):
                pyro.sample("y", dist.Normal(m, 1.0), obs=y[:, chosen])

    def guide(y):
        loc = pyro.param("loc", y.mean(0))
        with pyro.plate("features", 6, subsample_size=size, dim=-1) as chosen:
            pyro.sample("m", dist.Normal(loc[chosen], 0.3))

    return model, guide, {"y": numbers(N, 6)}


@program
def mixture():
    @config_enumerate
    def model(y):
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
        with pyro.plate("components", 2):
            loc = pyro.sample("loc", dist.Normal(0.0, 2.0))
        with data(y):
            k = pyro.sample("k", dist.Categorical(weights))
            pyro.sample("y", dist.Normal(loc[k], 0.7), obs=y)

    guide = AutoNormal(poutine.block(model, expose=["weights", "loc"]))
    return model, guide, {"y": torch.cat([numbers(N // 2) - 2, numbers(N // 2) + 2])}


@program
def hidden_markov():
    @config_enumerate
    def model(y):
        stay = pyro.sample("stay", dist.Beta(4.0, 2.0))
        with data(y):
            k = torch.zeros((), dtype=torch.int64)
            for t in pyro.markov(range(3)):
                p = torch.where(k == 1, stay, 1 - stay)
                k = pyro.sample(f"k_{t}", dist.Bernoulli(p))
                pyro.sample(f"y_{t}", dist.Normal(2 * k - 1, 1.0), obs=y[:, t])

    guide = AutoNormal(poutine.block(model, expose=["stay"]))
    return model, guide, {"y": numbers(N, 3)}


@program
def module_with_priors():
    model = BayesianRegression(features=3)
    return model, AutoDiagonalNormal(model), linear_data()


class Normalised(PyroModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.out = nn.Linear(4, 4)

    def model(self, x):
        pyro.module("vae", self)
        with data(x):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = torch.cat([z, z[..., :1]], -1)
            pyro.sample("x", dist.Normal(mean, 0.5).to_event(1), obs=x)

    def guide(self, x):
        with data(x):
            loc, scale = self.out(self.net(x)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


@program
def batch_normalisation():
    vae = Normalised()
    return vae.model, vae.guide, {"x": numbers(N, 3)}


@program
def point_estimate():
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
        with data(y):
            pyro.sample("y", dist.Normal(m, s), obs=y)

    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, expose=["m"])))
    guide.append(AutoDelta(poutine.block(model, expose=["s"])))
    return model, guide, {"y": numbers(N)}


@program
def autoregressive_flow():
    def model(y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with data(y):
            pyro.sample("y", dist.Normal(w[..., 0] * w[..., 1], 1.0), obs=y)

    return model, AutoIAFNormal(model, hidden_dim=[8]), {"y": numbers(N)}


@program
def guide_messenger():
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with data(y):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    return model, AutoNormalMessenger(model), {"y": numbers(N)}


@program
def python_branch():
    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        scale = 1.0 if m > 0 else 2.0
        with data(y):
            pyro.sample("y", dist.Normal(m, scale), obs=y)

    return model, AutoNormal(model), {"y": numbers(N)}


@program
def branch_on_any():
    """Runs with several draws at once, and gives all of them the branch of one."""

    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        scale = 3.0 if bool((m > 0.5).any()) else 1.0
        with data(y):
            pyro.sample("y", dist.Normal(m, scale), obs=y)

    return model, AutoNormal(model, init_scale=0.5), {"y": numbers(N)}


@program
def noise_outside_of_sites():
    """Draws that share a number which each should have for itself."""

    def model(y):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with data(y):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    def guide(y):
        loc = pyro.param("loc", torch.tensor(0.3))
        pyro.sample("m", dist.Normal(loc + torch.randn(()), 0.3))

    return model, guide, {"y": numbers(N)}


@program
def gaussian_process():
    def model(x, y):
        length = pyro.sample("length", dist.LogNormal(0.0, 0.5))
        k = torch.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + 0.1 * torch.eye(N)
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(N), k), obs=y)

    return model, AutoNormal(model), {"x": numbers(N), "y": numbers(N, seed=1)}


@program
def counts():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 0.3).to_event(1))
        gate = pyro.sample("gate", dist.Beta(2.0, 2.0))
        with data(x):
            rate = torch.einsum("nd,d->n", x, w).exp()
            pyro.sample("y", dist.ZeroInflatedPoisson(rate=rate, gate=gate), obs=y)

    y = torch.poisson(torch.ones(N), generator=torch.Generator().manual_seed(0))
    return model, AutoNormal(model), {"x": numbers(N, 3), "y": y}


@program
def classes():
    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3, 4), 1.0).to_event(2))
        with data(x):
            pyro.sample("y", dist.Categorical(logits=x @ w), obs=y)

    return model, AutoNormal(model), {"x": numbers(N, 3), "y": torch.arange(N) % 4}


@program
def strange_names():
    def model(y):
        a = pyro.sample("enc/z", dist.Normal(0.0, 1.0))
        b = pyro.sample("draw", dist.Normal(0.0, 1.0))
        with pyro.plate("chain", 2):
            c = pyro.sample("particles_dim_0", dist.Normal(0.0, 1.0))
        with pyro.plate("particles", N):
            pyro.sample("y/x", dist.Normal(a + b + c.sum(-1, keepdim=True), 1.0), obs=y)

    return model, AutoNormal(model), {"y": numbers(N)}
