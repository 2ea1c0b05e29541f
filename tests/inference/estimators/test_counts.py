"""Coupled differences of Poisson sites against sums over counts."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import UserError
from inference.estimators import CoupledDifference, ScoreFunction

ROWS = 20_000
START = torch.tensor([0.4, 1.1])
LARGEST = 40


def programs(w, cost):
    """Two counts a row; the second's rate depends on the first; the cost on both."""

    def guide():
        with pyro.plate("rows", len(w)):
            a = pyro.sample("a", dist.Poisson(w[:, 0].exp()))
            pyro.sample("b", dist.Poisson((w[:, 1] - 0.1 * a).exp()))

    def model():
        with pyro.plate("rows", len(w)):
            a = pyro.sample("a", dist.Poisson(torch.ones(len(w))))
            b = pyro.sample("b", dist.Poisson(torch.full((len(w),), 2.0)))
            pyro.factor("cost", -cost(a, b))

    return model, guide


def exact(cost):
    """The gradient of the loss in ``START``, by a sum over counts below ``LARGEST``."""
    w = START.clone().requires_grad_()
    a, b = torch.meshgrid(torch.arange(LARGEST * 1.0), torch.arange(LARGEST * 1.0), indexing="ij")
    log_q = dist.Poisson(w[0].exp()).log_prob(a) + dist.Poisson((w[1] - 0.1 * a).exp()).log_prob(b)
    log_p = dist.Poisson(torch.tensor(1.0)).log_prob(a) + dist.Poisson(torch.tensor(2.0)).log_prob(
        b
    )
    loss = (log_q.exp() * (log_q - log_p + cost(a, b))).sum()
    return torch.autograd.grad(loss, w)[0]


def sampled(estimator, cost):
    pyro.set_rng_seed(2)
    w = START.expand(ROWS, 2).clone().requires_grad_()
    return torch.autograd.grad(estimator.differentiable_loss(*programs(w, cost)), w)[0]


def square(a, b):
    return 0.1 * (a + b) ** 2


def log(a, b):
    return torch.log1p(a + b)


@pytest.mark.parametrize("cost", [square, log])
def test_unbiased(cost):
    """|z| < 4.5 in both figures; a bias of a tenth of the gradient would be 6 standard errors."""
    found, expected = sampled(CoupledDifference(), cost), exact(cost)
    error = found.std(0) / ROWS**0.5
    assert ((found.mean(0) - expected).abs() < 4.5 * error).all()
    assert (6 * error < 0.1 * expected.norm()).all()


@pytest.mark.parametrize("cost", [lambda z: z**2, torch.log1p], ids=["square", "log"])
def test_far_quieter_than_the_score_function(cost):
    """A twentieth of its variance, for one count whose prior is q: the signal is the cost."""

    def variance(estimator):
        pyro.set_rng_seed(0)
        w = torch.full((ROWS,), 0.5, requires_grad=True)

        def program(w):
            with pyro.plate("rows", ROWS):
                z = pyro.sample("z", dist.Poisson(w.detach().exp()))
                pyro.factor("cost", cost(z))

        def guide(w):
            with pyro.plate("rows", ROWS):
                pyro.sample("z", dist.Poisson(w.exp()))

        loss = estimator.differentiable_loss(program, guide, w)
        return torch.autograd.grad(loss, w)[0].var()

    assert variance(CoupledDifference()) < 0.05 * variance(ScoreFunction())


def test_counts_of_an_event_move_one_at_a_time():
    rate = torch.tensor([0.5, 2.0], requires_grad=True)

    def guide():
        pyro.sample("z", dist.Poisson(rate).to_event(1))

    def model():
        z = pyro.sample("z", dist.Poisson(torch.ones(2)).to_event(1))
        pyro.factor("cost", z[0] * z[1])

    pyro.set_rng_seed(5)
    loss = CoupledDifference().differentiable_loss(model, guide)
    (found,) = torch.autograd.grad(loss, rate)
    pyro.set_rng_seed(5)
    z = torch.poisson(rate.detach())

    def f(z):
        return (dist.Poisson(1.0).log_prob(z) - dist.Poisson(rate).log_prob(z)).sum() + z[0] * z[1]

    one = torch.eye(2)
    expected = torch.stack([f(z) - f(z + one[d]) for d in range(2)])
    torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-12)


def test_other_sites_are_refused_by_name():
    def bit():
        pyro.sample("b", dist.Bernoulli(0.5))

    with pytest.raises(UserError, match="handles Poisson sites, but site 'b' is a Bernoulli"):
        CoupledDifference().differentiable_loss(bit, bit)
