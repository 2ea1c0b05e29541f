"""Small networks of discrete causes: the sprinkler, with its latents summed out or sampled."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate

from tests.programs.registry import program, uniform

N = 6
WET = [[0.05, 0.8], [0.9, 0.98]]  # by sprinkler and rain


def lawn():
    return {"wet": (uniform(N) < 0.6).to(torch.get_default_dtype())}


def sprinkler(wet):
    often = pyro.param("often", torch.tensor(0.3), constraint=constraints.unit_interval)
    with pyro.plate("data", N, subsample=wet):
        rain = pyro.sample("rain", dist.Bernoulli(often)).long()
        on = pyro.sample("on", dist.Bernoulli(torch.tensor([0.5, 0.1])[rain])).long()
        pyro.sample("wet", dist.Bernoulli(torch.tensor(WET)[on, rain]), obs=wet)


def sprinkler_guide(wet):
    rain = pyro.param("q_rain", torch.full((2,), 0.4), constraint=constraints.unit_interval)
    on = pyro.param("q_on", torch.full((2, 2), 0.3), constraint=constraints.unit_interval)
    with pyro.plate("data", N, subsample=wet):
        rained = pyro.sample("rain", dist.Bernoulli(rain[wet.long()]))
        pyro.sample("on", dist.Bernoulli(on[wet.long(), rained.long()]))


@program(TraceEnum_ELBO)
def sprinkler_marginalised():
    """Sprinkler: both causes summed out of the model, empty guide."""
    return config_enumerate(sprinkler), lambda wet: None, lawn()


@program(lambda: TraceEnum_ELBO(max_plate_nesting=1))
def sprinkler_enumerated():
    """Sprinkler: both causes enumerated in the guide."""
    return sprinkler, config_enumerate(sprinkler_guide), lawn()


@program(TraceGraph_ELBO)
def sprinkler_sampled():
    """Sprinkler: both causes drawn, score function by TraceGraph_ELBO."""
    return sprinkler, sprinkler_guide, lawn()


def burglary(call):
    break_in = pyro.sample("break_in", dist.Bernoulli(0.1))
    quake = pyro.sample("quake", dist.Bernoulli(0.2))
    rate = pyro.param("rate", torch.tensor([0.1, 0.5]), constraint=constraints.unit_interval)
    alarm = pyro.sample("alarm", dist.Bernoulli(0.05 + 0.6 * break_in + 0.3 * quake))
    with pyro.plate("neighbours", N):
        pyro.sample("call", dist.Bernoulli(rate[alarm.long()]), obs=call)


def burglary_guide(call):
    p = pyro.param("p", torch.tensor([0.3, 0.4, 0.6]), constraint=constraints.unit_interval)
    pyro.sample("break_in", dist.Bernoulli(p[0]))
    pyro.sample("quake", dist.Bernoulli(p[1]))
    pyro.sample("alarm", dist.Bernoulli(p[2]))


@program(Trace_ELBO)
def burglar_alarm():
    """Burglar alarm: three global causes drawn, score function by Trace_ELBO."""
    return burglary, burglary_guide, {"call": lawn()["wet"]}


def ising(y):
    spins = pyro.sample("spins", dist.Bernoulli(torch.full((3,), 0.4)).to_event(1))
    with pyro.plate("data", N, subsample=y):
        pyro.sample("y", dist.Normal(spins.sum(), 1.0), obs=y)


def ising_guide(y):
    p = pyro.param("p", torch.tensor([0.3, 0.5, 0.6]), constraint=constraints.unit_interval)
    pyro.sample("spins", dist.Bernoulli(p).to_event(1))


@program(Trace_ELBO)
def sum_of_spins():
    """Three spins in one site, of which the model sees the sum over the first dimension."""
    return ising, ising_guide, {"y": 1 + uniform(N)}
