"""Closed-form KL where it is the KL, and nowhere else."""

import contextlib

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from inference.estimators import Pathwise

X = torch.tensor([0.4, -1.2, 2.0], dtype=torch.float64)
MASK = torch.tensor([True, False, True])


def programs(of_model, of_guide):
    """z_n ~ N(0, 1) against N(m, .6), each under a handler of its own."""

    def model(m):
        with pyro.plate("data", 3):
            with of_model():
                z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([3]))
            pyro.sample("x", dist.Normal(z, 0.5), obs=X)

    def guide(m):
        with pyro.plate("data", 3), of_guide():
            pyro.sample("z", dist.Normal(m, 0.6).expand([3]))

    return model, guide


def loss_and_gradient(handlers, **options):
    m = torch.tensor(0.7, requires_grad=True)
    pyro.set_rng_seed(1)
    loss = Pathwise(**options).differentiable_loss(*programs(*handlers), m)
    return loss.detach(), torch.autograd.grad(loss, m)[0]


def plain():
    return contextlib.nullcontext()


def doubled():
    return poutine.scale(scale=2.0)


def masked():
    return poutine.mask(mask=MASK)


def masked_alike():
    """By a tensor of its own: that it is equal would have to be read."""
    return poutine.mask(mask=MASK.clone())


@pytest.mark.parametrize(
    "handlers",
    [(masked, masked_alike), (doubled, plain), (plain, doubled), (masked, plain), (plain, masked)],
)
def test_scaled_or_masked_in_one_alone_is_sampled(handlers):
    for closed, sampled in zip(
        loss_and_gradient(handlers, kl="analytic"), loss_and_gradient(handlers), strict=True
    ):
        assert torch.equal(closed, sampled)


@pytest.mark.parametrize(
    ("handler", "weight"), [(plain, 1.0), (doubled, 2.0), (masked, MASK.double())]
)
def test_else_it_is_the_kl_under_their_scale_and_mask(handler, weight):
    """Σ_n KL(N(m, .6) ‖ N(0, 1)), ½ (σ² + m² − 1) − log σ each; its gradient m."""
    loss, gradient = loss_and_gradient((handler, handler), kl="analytic")
    m, scale = torch.tensor(0.7, requires_grad=True), torch.tensor(0.6)
    pyro.set_rng_seed(1)
    z = m + scale * torch.randn(3)
    kl = 0.5 * (scale**2 + m**2 - 1) - scale.log()
    expected = (weight * kl * torch.ones(3)).sum() - dist.Normal(z, 0.5).log_prob(X).sum()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, m)[0], rtol=1e-12, atol=0)


def test_a_prior_of_what_is_drawn_later_is_sampled():
    """The model draws b before a, the guide after it: p(a | b) has no closed form at a's draw."""

    def model(m):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.sample("a", dist.Normal(b, 1.0))

    def guide(m):
        a = pyro.sample("a", dist.Normal(m, 0.6))
        pyro.sample("b", dist.Normal(0.5 * a, torch.tensor(0.5)))

    m = torch.tensor(0.7)
    pyro.set_rng_seed(1)
    loss = Pathwise(kl="analytic").differentiable_loss(model, guide, m)
    pyro.set_rng_seed(1)
    a = m + 0.6 * torch.randn(())
    b = 0.5 * a + 0.5 * torch.randn(())
    of_a = dist.Normal(m, 0.6).log_prob(a) - dist.Normal(b, 1.0).log_prob(a)
    of_b = 0.5 * (0.25 + 0.25 * a**2 - 1) - torch.tensor(0.5).log()
    torch.testing.assert_close(loss, of_a + of_b, rtol=1e-12, atol=0)
