"""A number that a distribution refuses in training ends it in a sentence, like any NaN."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch.distributions import constraints

from inference import UserError, audit, fit
from inference.estimators import Pathwise

ROWS = 8
DATA = {"x": torch.linspace(-2, 2, ROWS)}
STEEP = functools.partial(torch.optim.SGD, lr=1e4)
quiet = functools.partial(fit, data=DATA, optimizer=STEEP, steps=30, progress=False)


def model(x):
    with pyro.plate("data", ROWS, subsample=x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(3 * z + 5, 0.5), obs=x)


def exponential(x):
    """exp of a large number is infinite, of a very negative one 0."""
    loc, log_scale = pyro.param("loc", torch.zeros(ROWS)), pyro.param("s", torch.zeros(ROWS))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("z", dist.Normal(loc, (log_scale - loc).exp()))


def constrained(x):
    loc = pyro.param("loc", torch.zeros(ROWS))
    scale = pyro.param("scale", torch.ones(ROWS), constraint=constraints.positive)
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("z", dist.Normal(loc, scale))


def bare(x):
    """A scale without a constraint becomes negative."""
    loc, scale = pyro.param("loc", torch.zeros(ROWS)), pyro.param("s", torch.ones(ROWS))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("z", dist.Normal(loc, scale))


def joint(x):
    """No Cholesky factor is left of a matrix that is not positive definite."""
    loc, root = pyro.param("loc", torch.zeros(1)), pyro.param("root", torch.eye(1))
    covariance = torch.linalg.cholesky(root)
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("z", dist.Normal(loc, covariance[0]))


GUIDES = [exponential, constrained, bare, joint]
REFUSED = "is not finite|became|positive-definite|drew a non-finite"


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("estimator", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, Pathwise])
def test_it_is_named(guide, estimator):
    with pytest.raises(UserError, match=REFUSED) as caught:
        quiet(model, guide, estimator=estimator())
    assert "lower the learning rate" in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_which_number_of_which_distribution_and_where():
    with pytest.raises(UserError, match=r"the scale of a Normal became -.*, which is not Greater"):
        quiet(model, bare)
    with pytest.raises(UserError, match="in the guide, before its first site"):
        quiet(model, bare)


def test_the_models_own_scale_is_named_after_the_latent():
    def learnt(x):
        scale = pyro.param("s", torch.tensor(5.0))
        with pyro.plate("data", ROWS, subsample=x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    def guide(x):
        with pyro.plate("data", ROWS, subsample=x):
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(())), 1.0))

    with pytest.raises(UserError, match="in the model, after site 'z'"):
        quiet(learnt, guide)


def test_an_error_of_the_programs_own_is_its_own():
    calls = []

    def guide(x):
        calls.append(0)
        if len(calls) > 4:
            raise ValueError("mine")
        constrained(x)

    with pytest.raises(ValueError, match="mine") as caught:
        quiet(model, guide, optimizer=functools.partial(torch.optim.SGD, lr=1e-3))
    assert not isinstance(caught.value, UserError)


def test_the_last_good_state_is_kept(tmp_path):
    with pytest.raises(UserError):
        quiet(model, bare, directory=tmp_path / "run", checkpoint_every=0.0)
    kept = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)[0]
    assert all(p.isfinite().all() for p in kept["program"]["parameters"].values())


def test_audit_says_so_too():
    with pytest.raises(UserError, match=REFUSED):
        audit(model, bare, DATA, [Pathwise()], at=(20,), optimizer=STEEP, samples=3, progress=False)
