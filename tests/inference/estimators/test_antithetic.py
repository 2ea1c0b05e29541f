"""ARM and DisARM by hand: both branches' costs written out, under the same draws."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.estimators import ARM, DisARM
from inference.estimators.antithetic import uniform_given

X = torch.tensor([0.4, -1.2, 2.0], dtype=torch.float64)
LOGITS = torch.tensor([0.3, -0.8, 1.4], dtype=torch.float64)


def model(logits):
    with pyro.plate("data", 3):
        b = pyro.sample("b", dist.Bernoulli(0.3).expand([3]))
        pyro.sample("x", dist.Normal(2 * b, 0.7), obs=X)


def guide(logits):
    with pyro.plate("data", 3):
        pyro.sample("b", dist.Bernoulli(logits=logits))


def f(b):
    """(3,) log p(x, b) − log q(b)."""
    log_p = dist.Bernoulli(0.3).log_prob(b) + dist.Normal(2 * b, 0.7).log_prob(X)
    return log_p - dist.Bernoulli(logits=LOGITS).log_prob(b)


@pytest.mark.parametrize("kind", [ARM, DisARM])
def test_value_and_gradient_by_hand(kind):
    """The bound is the mean of both branches; Yin & Zhou's equation 9, Dong et al.'s equation 7."""
    logits = LOGITS.clone().requires_grad_()
    pyro.set_rng_seed(4)
    loss = kind().differentiable_loss(model, guide, logits)
    (found,) = torch.autograd.grad(loss, logits)
    pyro.set_rng_seed(4)
    p = LOGITS.sigmoid()
    b = torch.bernoulli(p)
    v = torch.rand(3)
    u = torch.where(b == 1, v * p, p + v * (1 - p))
    other = (1 - u < p).double()
    gap = f(b) - f(other)
    if kind is ARM:
        gradient = gap * (0.5 - u)
    else:
        sign = torch.where(other == 1, -1.0, 1.0)
        gradient = 0.5 * gap * sign * (b != other) * torch.maximum(p, 1 - p)
    torch.testing.assert_close(found, -gradient, rtol=1e-12, atol=1e-14)
    expected = -(f(b).sum() + f(other).sum()) / 2
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=0)


def test_the_uniforms_given_a_bit_are_those_on_its_side():
    p = torch.rand(100_000)
    bit = torch.bernoulli(p)
    u = uniform_given(bit, p)
    assert torch.equal((u < p).double(), bit)
    for power in (1, 2):  # E u = 1/2, E u² = 1/3
        values = u**power
        assert abs(values.mean() - 1 / (1 + power)) < 4.5 * values.std() / 100_000**0.5


def test_all_uniforms_of_a_bit_come():
    for bit, low, high in ((1.0, 0.0, 0.3), (0.0, 0.3, 1.0)):
        u = uniform_given(torch.full((10_000,), bit), torch.tensor(0.3).expand(10_000))
        assert low <= u.min() < low + 0.002
        assert high - 0.002 < u.max() <= high


def test_two_sites_take_turns():
    """Against enumeration of both bits; |z| < 4.5 in both figures."""
    count = 80_000
    start = torch.tensor([0.2, -0.5], requires_grad=True)
    w = start.detach().expand(count, 2).clone().requires_grad_()

    def model_of_two(w):
        with pyro.plate("data", count):
            b = pyro.sample("b", dist.Bernoulli(0.4).expand([count]))
            c = pyro.sample("c", dist.Bernoulli(0.6).expand([count]))
            pyro.sample("x", dist.Normal(b + 2 * c, 1.0), obs=torch.full((count,), 1.5))

    def guide_of_two(w):
        with pyro.plate("data", count):
            b = pyro.sample("b", dist.Bernoulli(logits=w[:, 0]))
            pyro.sample("c", dist.Bernoulli(logits=w[:, 1] + b))

    loss = DisARM().differentiable_loss(model_of_two, guide_of_two, w)
    (found,) = torch.autograd.grad(loss, w)
    exact = torch.zeros(())
    for b, c in itertools.product((0.0, 1.0), repeat=2):
        b, c = torch.tensor(b), torch.tensor(c)
        log_q = dist.Bernoulli(logits=start[0]).log_prob(b)
        log_q = log_q + dist.Bernoulli(logits=start[1] + b).log_prob(c)
        log_p = dist.Bernoulli(0.4).log_prob(b) + dist.Bernoulli(0.6).log_prob(c)
        log_p = log_p + dist.Normal(b + 2 * c, 1.0).log_prob(torch.tensor(1.5))
        exact = exact + log_q.exp() * (log_q - log_p)
    (expected,) = torch.autograd.grad(exact, start)
    z = (found.mean(0) - expected) / found.std(0) * count**0.5
    assert z.abs().max() < 4.5
    assert (found.std(0) * 6 < 0.2 * count**0.5 * expected.abs()).all()  # a fifth would be seen
