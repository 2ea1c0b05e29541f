"""Times until an event, some of them cut off before it."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import autoguide

from tests.programs.registry import noise, program, uniform

N = 8


def times():
    seen = torch.arange(N) % 3 > 0
    return {"x": noise(N), "time": 0.2 + 2 * uniform(N), "seen": seen}


@program()
def survival_masks():
    """Weibull times, those cut off through a masked factor, AutoNormal."""

    def model(x, time, seen):
        shape = pyro.sample("shape", dist.LogNormal(0.0, 0.3))
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", N, subsample=x):
            law = dist.Weibull((w * x).exp(), shape)
            with poutine.mask(mask=seen):
                pyro.sample("time", law, obs=time)
            with poutine.mask(mask=~seen):
                cut = dist.Bernoulli((1 - law.cdf(time)).clamp(1e-6, 1 - 1e-6))
                pyro.sample("lasted", cut, obs=torch.ones(len(x)))

    guide = autoguide.AutoNormal(model)
    return model, guide, times(), guide


@program()
def survival_factor():
    """Exponential times, those cut off through pyro.factor, AutoNormal."""

    def model(x, time, seen):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        rate = (w[0] + w[1] * x).exp()
        with pyro.plate("data", N, subsample=x):
            pyro.factor("survival", torch.where(seen, rate.log(), 0.0) - rate * time)

    guide = autoguide.AutoNormal(model)
    return model, guide, times(), guide


@program()
def survival_imputed():
    """Log-normal times, the unseen ones imputed by obs_mask, guide by hand."""

    def model(time, seen):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", N, subsample=time):
            pyro.sample("time", dist.LogNormal(loc, 0.5), obs=time, obs_mask=seen)

    def guide(time, seen):
        place = pyro.param("place", torch.tensor(0.1))
        width = pyro.param("width", torch.tensor(0.2), constraint=constraints.positive)
        pyro.sample("loc", dist.Normal(place, width))
        with pyro.plate("data", N, subsample=time):
            unseen = dist.LogNormal(pyro.param("unseen", torch.zeros(N)), 0.5)
            pyro.sample("time_unobserved", unseen)

    data = times()
    return model, guide, {"time": data["time"], "seen": data["seen"]}
