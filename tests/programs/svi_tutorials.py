"""The coin and what follows from it: Pyro's tutorials "SVI part I" to "SVI part IV"."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import nn

from tests.programs.registry import program

N = 6


def tosses():
    return {"y": torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])}


def fairness():
    return pyro.sample("fairness", dist.Beta(10.0, 10.0))


def coin_guide(y):
    a = pyro.param("a", torch.tensor(15.0), constraint=constraints.positive)
    b = pyro.param("b", torch.tensor(14.0), constraint=constraints.positive)
    pyro.sample("fairness", dist.Beta(a, b))


@program()
def coin_loop():
    """Part I: a site of each toss in a Python loop."""

    def model(y):
        f = fairness()
        for i in range(N):
            pyro.sample(f"y_{i}", dist.Bernoulli(f), obs=y[i])

    return model, coin_guide, tosses()


@program()
def coin_sequential():
    """Part II: a sequential plate."""

    def model(y):
        f = fairness()
        for i in pyro.plate("tosses", N):
            pyro.sample(f"y_{i}", dist.Bernoulli(f), obs=y[i])

    return model, coin_guide, tosses()


@program()
def coin_vectorised():
    """Part II: a vectorised plate without a subsample."""

    def model(y):
        f = fairness()
        with pyro.plate("tosses"):
            pyro.sample("y", dist.Bernoulli(f).expand([N]), obs=y)

    return model, coin_guide, tosses()


@program(other_noise=True)
def coin_subsampled():
    """Part II: a vectorised plate that draws its own subsample."""

    def model(y):
        f = fairness()
        with pyro.plate("tosses", N, subsample_size=2) as index:
            pyro.sample("y", dist.Bernoulli(f), obs=y[index])

    return model, coin_guide, tosses()


@program()
def coin_subsampled_sequential():
    """Part II: a sequential plate that draws its own subsample."""

    def model(y):
        f = fairness()
        for i in pyro.plate("tosses", N, subsample_size=2):
            pyro.sample(f"y_{i}", dist.Bernoulli(f), obs=y[i])

    return model, coin_guide, tosses()


@program(other_noise=True)
def local_subsampled():
    """Part II: latents of each row, amortised guide, both in one subsample."""

    def model(y):
        f = fairness()
        with pyro.plate("tosses", N, subsample_size=3) as index:
            z = pyro.sample("z", dist.Normal(f, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[index])

    def guide(y):
        coin_guide(y)
        gain = pyro.param("gain", torch.tensor(0.5))
        with pyro.plate("tosses", N, subsample_size=3) as index:
            pyro.sample("z", dist.Normal(gain * y[index], 0.7))

    return model, guide, tosses()


@program(TraceMeanField_ELBO)
def coin_analytic():
    """Part I: the KL of two beta distributions in closed form."""

    def model(y):
        f = fairness()
        with pyro.plate("tosses", N, subsample=y):
            pyro.sample("y", dist.Bernoulli(f), obs=y)

    return model, coin_guide, tosses()


def hidden(y):
    with pyro.plate("tosses", N, subsample=y):
        z = pyro.sample("z", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(z, 0.6), obs=y)


def hidden_guide(baseline, net=None):
    def guide(y):
        if net is not None:
            pyro.module("baseline", net)
        logits = pyro.param("logits", torch.tensor([-0.3, 0.4]))[y.long()]
        with pyro.plate("tosses", N, subsample=y):
            pyro.sample("z", dist.Bernoulli(logits=logits), infer={"baseline": baseline(y)})

    return guide


@program(TraceGraph_ELBO)
def baseline_average():
    """Part III: score function with a decaying average as baseline."""
    guide = hidden_guide(lambda y: {"use_decaying_avg_baseline": True, "baseline_beta": 0.8})
    return hidden, guide, tosses()


class Baseline(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(1, 1)

    def forward(self, y):
        return self.last(y[:, None]).squeeze(-1)


@program(TraceGraph_ELBO)
def baseline_network():
    """Part III: score function with a network as baseline."""
    net = Baseline()
    guide = hidden_guide(lambda y: {"nn_baseline": net, "nn_baseline_input": y}, net)
    return hidden, guide, tosses(), net


@program(TraceGraph_ELBO)
def baseline_value():
    """Part III: score function with a number as baseline."""
    return hidden, hidden_guide(lambda y: {"baseline_value": torch.full((N,), -0.5)}), tosses()


@program(lambda: Trace_ELBO(num_particles=3))
def many_particles():
    """Part IV: three particles, one after the other."""
    return hidden, hidden_guide(lambda y: {}), tosses()


@program(lambda: Trace_ELBO(3, max_plate_nesting=1, vectorize_particles=True))
def vectorised_particles():
    """Part IV: three particles in one run."""
    return hidden, hidden_guide(lambda y: {}), tosses()


@program()
def initialised_lazily():
    """Part IV: parameters that are made by a function at their first use, drawn at random."""

    def model(y):
        loc = pyro.param("loc", lambda: torch.randn(()))
        with pyro.plate("tosses", N, subsample=y):
            z = pyro.sample("z", dist.Normal(loc, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(y):
        place = pyro.param("place", lambda: torch.randn(N), event_dim=0)
        with pyro.plate("tosses", N, subsample=y):
            pyro.sample("z", dist.Normal(place, 0.5))

    return model, guide, tosses()
