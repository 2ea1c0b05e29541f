"""Model and guide that do not match are refused in words, before any step."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from inference import UserError, fit

quiet = functools.partial(fit, data={"x": torch.randn(6, 2)}, steps=1, progress=False)


def model(x):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", 6, subsample=x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(w + z[:, None], 1.0).to_event(1), obs=x)


def guide(w=True, z=True, forgot=False, flat=False, size=6):
    def drawn(x):
        loc = pyro.param("loc", torch.zeros(2))
        if w:
            fn = dist.Normal(loc, 1.0)
            pyro.sample("w", fn if flat else fn.to_event(1))
        if forgot:
            pyro.sample("z", dist.Normal(loc[0], 1.0))
        elif z:
            with pyro.plate("data", size):
                pyro.sample("z", dist.Normal(loc[0], 1.0))

    return drawn


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (guide(forgot=True), r"latent 'z' has shape \(6,\) in the model and \(\) in the guide"),
        (guide(size=4), "plate 'data' has 6 rows in the model and 4 in the guide"),
        (guide(z=False), "latent site 'z' of the model is not in the guide"),
        (guide(flat=True), "event_dim"),
    ],
)
def test_refused(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        quiet(model, wrong)


def test_a_right_one_trains():
    quiet(model, guide())


@pytest.mark.parametrize("make", [guide, lambda: AutoNormal(model)])
def test_exchanged(make):
    with pytest.raises(UserError, match="model and guide are exchanged"):
        quiet(make(), model)


def test_an_error_of_the_programs_own_stays_its_own():
    def broken(x):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        quiet(broken, guide())
