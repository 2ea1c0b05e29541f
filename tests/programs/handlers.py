"""Effect handlers, and the ways a program can be handed over: condition, do, scale, mask, partial.

Like Pyro's tutorials "Introduction to Pyro", "Poutine" and "Effect handlers".
"""

import functools

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import RenyiELBO, TraceGraph_ELBO, autoguide
from pyro.nn import PyroModule, PyroParam
from torch import nn

from tests.programs.registry import noise, program, uniform

N = 8


def numbers():
    return {"y": 1 + 0.5 * noise(N)}


def scale(guess):
    weight = pyro.sample("weight", dist.Normal(guess.mean(), 1.0))
    with pyro.plate("data", N, subsample=guess):
        return pyro.sample("measured", dist.Normal(weight, 0.75))


def scale_guide(guess):
    a = pyro.param("a", guess.mean().detach().clone())
    b = pyro.param("b", torch.tensor(1.0), constraint=constraints.positive)
    return pyro.sample("weight", dist.Normal(a, b))


@program()
def weighing_conditioned():
    """Weighing: observations given by pyro.condition."""
    model = pyro.condition(scale, data={"measured": 9.5 + 0.1 * noise(N, seed=1)})
    return model, scale_guide, {"guess": 8.5 + 0.1 * noise(N)}


def treatment(x, y):
    cause = pyro.sample("cause", dist.Normal(0.0, 1.0))
    dose = pyro.sample("dose", dist.Normal(cause, 1.0))
    effect = pyro.sample("effect", dist.Normal(0.0, 1.0))
    with pyro.plate("data", N, subsample=x):
        pyro.sample("y", dist.Normal(cause + effect * dose * x, 1.0), obs=y)


@program()
def intervention():
    """pyro.do cuts a latent from its cause, AutoNormal for what is left."""
    model = pyro.do(treatment, data={"dose": torch.tensor(1.5)})
    guide = autoguide.AutoNormal(model)
    return model, guide, {"x": noise(N), "y": noise(N, seed=1)}, guide


def normal_mean(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("data", N, subsample=y):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def normal_guide(y):
    loc = pyro.param("loc", torch.tensor(0.2))
    width = pyro.param("width", torch.tensor(0.5), constraint=constraints.positive)
    pyro.sample("mean", dist.Normal(loc, width))


@program()
def tempered():
    """The whole model under poutine.scale."""
    return poutine.scale(normal_mean, scale=0.3), normal_guide, numbers()


@program()
def down_weighted():
    """poutine.scale around the likelihood alone, a weight of each datum."""

    def model(y, weight):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        with pyro.plate("data", N, subsample=y), poutine.scale(scale=weight):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    def guide(y, weight):
        normal_guide(y)

    return model, guide, numbers() | {"weight": 0.5 + uniform(N)}


@program()
def missing_by_mask():
    """Missing data by poutine.mask around the likelihood, AutoNormal."""

    def model(y, seen):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        with pyro.plate("data", N, subsample=y), poutine.mask(mask=seen):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    guide = autoguide.AutoNormal(model)
    seen = torch.arange(N) % 4 > 0
    y = torch.where(seen, numbers()["y"], torch.tensor(99.0))
    return model, guide, {"y": y, "seen": seen}, guide


@program()
def missing_by_distribution():
    """Missing data by .mask() of the distribution, softmax over a latent."""

    def model(x, y, seen):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        mean = (torch.softmax(z, 0) * x).sum(-1)
        with pyro.plate("data", N, subsample=x):
            pyro.sample("y", dist.Normal(mean, 0.5).mask(seen), obs=y)

    guide = autoguide.AutoNormal(model)
    seen = torch.arange(N) % 4 > 0
    return model, guide, {"x": noise(N, 3), "y": noise(N, seed=1), "seen": seen}, guide


@program()
def deterministic_values():
    """pyro.deterministic outside and inside the data's plate, and a factor, AutoNormal."""

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.deterministic("length", w.square().sum(-1).sqrt())
        with pyro.plate("data", N, subsample=x):
            mean = pyro.deterministic("fitted", (x * w).sum(-1), event_dim=0)
            pyro.sample("y", dist.Normal(mean, 0.5), obs=y)
        pyro.factor("penalty", -0.5 * w.abs().sum(-1))

    guide = autoguide.AutoNormal(model)
    return model, guide, {"x": noise(N, 2), "y": noise(N, seed=1)}, guide


def with_width(width, y):
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("data", N, subsample=y):
        pyro.sample("y", dist.Normal(mean, width), obs=y)


@program()
def partial():
    """A model with one argument bound by functools.partial."""
    return functools.partial(with_width, torch.tensor(0.7)), normal_guide, numbers()


class Callable:
    """Any object that can be called."""

    def __init__(self, width):
        self.net, self.width = nn.Linear(1, 1), width

    def __call__(self, y):
        pyro.module("net", self.net)
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        with pyro.plate("data", N, subsample=y):
            loc = mean + self.net(y.new_ones(len(y), 1))[:, 0]
            pyro.sample("y", dist.Normal(loc, self.width), obs=y)


@program(batch_size=4)
def callable_object():
    """A model that is an object with __call__ and a network in an attribute."""
    model = Callable(0.8)
    return model, normal_guide, numbers(), model.net


@program(batch_size=4)
def closure():
    """Model and guide that close over one network without naming it to the reader."""
    net = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))

    def model(y):
        with pyro.plate("data", N, subsample=y):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(y):
        pyro.module("net", net)
        with pyro.plate("data", N, subsample=y):
            loc, log_scale = net(y[:, None]).unbind(-1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()))

    return model, guide, numbers(), net


class Constrained(PyroModule):
    """Parameters declared by PyroParam, one of them read inside the plate."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(0.1))
        self.width = PyroParam(torch.tensor(0.8), constraint=constraints.positive)

    def forward(self, y):
        with pyro.plate("data", N, subsample=y):
            z = pyro.sample("z", dist.Normal(self.offset, 1.0))
            pyro.sample("y", dist.Normal(z, self.width), obs=y)


def local_guide(y):
    gain = pyro.param("gain", torch.tensor(0.4))
    with pyro.plate("data", N, subsample=y):
        pyro.sample("z", dist.Normal(gain * y, 0.6))


@program(batch_size=3)
def constrained_module():
    """PyroModule with PyroParam, minibatches, guide a function with pyro.param."""
    model = Constrained()
    return model, local_guide, numbers(), model


@program(lambda: RenyiELBO(alpha=0.5, num_particles=3))
def renyi():
    """Rényi's bound of three particles."""
    return normal_mean, normal_guide, numbers()


@program(lambda: TraceGraph_ELBO(num_particles=2))
def mixed_noise():
    """A drawn coin and a reparameterised normal, two particles, TraceGraph_ELBO."""

    def model(y):
        heads = pyro.sample("heads", dist.Bernoulli(0.4))
        mean = pyro.sample("mean", dist.Normal(2 * heads, 1.0))
        with pyro.plate("data", N, subsample=y):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    def guide(y):
        chance = pyro.param("chance", torch.tensor(0.6), constraint=constraints.unit_interval)
        heads = pyro.sample("heads", dist.Bernoulli(chance))
        loc = pyro.param("locs", torch.tensor([0.1, 1.0]))[heads.long()]
        pyro.sample("mean", dist.Normal(loc, 0.5))

    return model, guide, numbers()


@program(batch_size=1)
def late_parameters():
    """Parameters that are born in a later batch, one for each kind of row."""

    def model(kind, y):
        width = pyro.param("width", torch.tensor(1.0), constraint=constraints.positive)
        place = pyro.param(f"place_{int(kind[0])}", torch.tensor(0.0))
        with pyro.plate("data", N, subsample=kind):
            pyro.sample("y", dist.Normal(place, width), obs=y)

    return model, lambda kind, y: None, {"kind": torch.arange(N) % 2, "y": noise(N)}


@program()
def awkward_names():
    """Sites named draw, chain, particles and a/b, which files and ArviZ cannot hold."""

    def model(y):
        draw = pyro.sample("draw", dist.Normal(0.0, 1.0))
        chain = pyro.sample("chain", dist.Normal(draw, 1.0))
        with pyro.plate("particles", N, subsample=y):
            pyro.sample("a/b", dist.Normal(chain, 1.0), obs=y)

    guide = autoguide.AutoNormal(model)
    return model, guide, numbers(), guide
