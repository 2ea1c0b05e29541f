"""The ELBO's named terms by hand, at the draws of the loss that they add up to."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

from inference.engine.program.terms import Terms
from inference.estimators import IWAE, Pathwise, ScoreFunction
from tests.support.examples import local

X = torch.tensor([0.4, -1.2, 2.0], dtype=torch.float64)


def model(x):
    w = pyro.sample("w", dist.Normal(0.0, 2.0))
    with pyro.plate("data", 6, subsample=x):
        z = pyro.sample("z", dist.Normal(w, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def guide(x):
    pyro.sample("w", dist.Normal(0.3, torch.tensor(0.4)))
    with pyro.plate("data", 6, subsample=x):
        pyro.sample("z", dist.Normal(0.5 * x, 0.7))


def by_hand(particles):
    """A part of half of the data counts twice."""
    pyro.set_rng_seed(4)
    totals = torch.zeros(3)
    for _ in range(particles):
        w = 0.3 + 0.4 * torch.randn(())
        z = 0.5 * X + 0.7 * torch.randn(3)
        kl_w = dist.Normal(0.3, 0.4).log_prob(w) - dist.Normal(0.0, 2.0).log_prob(w)
        kl_z = dist.Normal(0.5 * X, 0.7).log_prob(z) - dist.Normal(w, 1.0).log_prob(z)
        log_x = dist.Normal(z, 0.5).log_prob(X)
        totals += torch.stack([kl_w, 2 * kl_z.sum(), 2 * log_x.sum()]) / particles
    return totals


@pytest.mark.parametrize("kind", [Pathwise, ScoreFunction, Trace_ELBO, TraceGraph_ELBO])
@pytest.mark.parametrize("particles", [1, 3])
def test_terms_are_sampled_kls_and_log_likelihoods(kind, particles):
    terms = Terms(kind(num_particles=particles))
    for again in range(2):
        pyro.set_rng_seed(4)
        loss = terms.estimator.loss(model, guide, X)
        if not again:
            terms.probe(torch.tensor(loss))
            assert terms.names == ("kl_w", "kl_z", "log_likelihood_x")
            continue
        found = terms.take()
        torch.testing.assert_close(found, by_hand(particles), rtol=1e-10, atol=0)
        assert loss == pytest.approx(float(found[0] + found[1] - found[2]), rel=1e-10)
    assert terms.take().shape == (0,)


def test_a_watched_estimator_is_a_copy():
    estimator = Pathwise()
    terms = Terms(estimator)
    terms.estimator.loss(model, guide, X)
    assert "_get_traces" not in vars(estimator)
    assert terms.estimator is not estimator


def test_what_is_no_sum_of_terms_has_none():
    of_rows, their_guide, data = local(5)
    for estimator in (IWAE(3), Pathwise(kl="analytic")):
        terms = Terms(estimator)
        loss = terms.estimator.loss(of_rows, their_guide, data["x"])
        terms.probe(torch.tensor(loss))
        assert terms.names == ()
        terms.estimator.loss(of_rows, their_guide, data["x"])
        assert terms.take().shape == (0,)


def test_steps_of_a_sequence_share_a_term():
    def steps(x):
        z = torch.zeros(())
        for t in range(3):
            z = pyro.sample(f"z_{t}", dist.Normal(z, 1.0))
            pyro.sample(f"x_{t}", dist.Normal(z, 1.0), obs=X[t])
        pyro.sample("b_last", dist.Normal(z, 1.0), obs=X[0])

    def looks(x):
        for t in range(3):
            pyro.sample(f"z_{t}", dist.Normal(X[t], 1.0))

    terms = Terms(Pathwise())
    pyro.set_rng_seed(1)
    terms.probe(torch.tensor(terms.estimator.loss(steps, looks, X)))
    assert terms.names == ("kl_z", "log_likelihood_b_last", "log_likelihood_x")
    pyro.set_rng_seed(1)
    terms.estimator.loss(steps, looks, X)
    pyro.set_rng_seed(1)
    z = [X[t] + torch.randn(()) for t in range(3)]
    one = dist.Normal(0.0, 1.0)
    before = [torch.zeros(()), *z[:2]]
    kl = sum(one.log_prob(z[t] - X[t]) - one.log_prob(z[t] - before[t]) for t in range(3))
    log_x = sum(one.log_prob(X[t] - z[t]) for t in range(3))
    expected = torch.stack([kl, one.log_prob(X[0] - z[2]), log_x])
    torch.testing.assert_close(terms.take(), expected, rtol=1e-10, atol=0)


def test_auxiliary_draws_leave_one_kl_of_all_latents():
    """What an autoguide draws is one vector, of which the latents are parts."""

    def vector(x):
        u = pyro.sample("u", dist.Normal(X, 0.7).to_event(1), infer={"is_auxiliary": True})
        pyro.sample("w", dist.Delta(u[0], log_density=torch.tensor(0.1)))
        with pyro.plate("data", 6, subsample=x):
            pyro.sample("z", dist.Delta(u))

    terms = Terms(Pathwise())
    pyro.set_rng_seed(1)
    loss = terms.estimator.loss(model, vector, X)
    terms.probe(torch.tensor(loss))
    assert terms.names == ("kl_latent", "log_likelihood_x")
    terms.estimator.loss(model, vector, X)
    terms.take()
    pyro.set_rng_seed(1)
    terms.estimator.loss(model, vector, X)
    pyro.set_rng_seed(1)
    u = X + 0.7 * torch.randn(3)
    kl = dist.Normal(X, 0.7).log_prob(u).sum() + 0.1
    kl = kl - dist.Normal(0.0, 2.0).log_prob(u[0]) - 2 * dist.Normal(u[0], 1.0).log_prob(u).sum()
    log_x = 2 * dist.Normal(u, 0.5).log_prob(X).sum()
    torch.testing.assert_close(terms.take(), torch.stack([kl, log_x]), rtol=1e-10, atol=0)
