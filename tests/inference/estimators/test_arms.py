"""ARMS against the definitions of its paper: the copula, the correction, DisARM, and variance."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import UserError
from inference.estimators import ARMS, DisARM, arms
from inference.estimators.antithetic import uniform_given
from inference.estimators.arms import antithetic_bits, correction
from tests.support.catalogue import CASES
from tests.support.oracle import per_sample

DRAWS = 200_000
LOGITS = torch.tensor([-3.0, -0.7, 0.0, 0.4, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_each_bit_has_its_probability_and_pairs_the_papers(count):
    """Means of all bits, and of products of any two, within 4.5 standard errors."""
    torch.manual_seed(count)
    p = LOGITS.sigmoid()
    first = torch.bernoulli(p.expand(DRAWS, -1))
    bits = torch.stack([first, *antithetic_bits(first, LOGITS.expand(DRAWS, -1), count)])
    assert bits.shape == (count, DRAWS, 5)
    error = (p * (1 - p) / DRAWS).sqrt()
    assert ((bits.mean(1) - p).abs() < 4.5 * error).all()
    q = torch.minimum(p, 1 - p)
    rare = torch.where(p > 0.5, 1 - bits, bits)
    both = (2 * q ** (1 / (count - 1)) - 1).clamp(min=0) ** (count - 1)
    for j in range(count):
        for k in range(j):
            found = (rare[j] * rare[k]).mean(0)
            assert ((found - both).abs() < 4.5 * (both * (1 - both) / DRAWS).sqrt() + 1e-12).all()
    expected = q * (1 - q) / (q - both)
    torch.testing.assert_close(correction(LOGITS, count), expected, rtol=1e-12, atol=0)


def test_sure_bits_have_a_finite_gradient():
    logits = torch.tensor([-800.0, 800.0])
    assert torch.equal(correction(logits, 3), torch.ones(2))
    first = torch.tensor([0.0, 1.0])
    assert all(torch.equal(bit, first) for bit in antithetic_bits(first, logits, 3))


def test_two_draws_are_disarm(monkeypatch):
    """Given DisARM's pair the gradient is DisARM's; and two draws are pairs like its own."""
    w = LOGITS.expand(40, -1).clone().requires_grad_()

    def model():
        with pyro.plate("rows", 40):
            b = pyro.sample("b", dist.Bernoulli(0.3).expand([5]).to_event(1))
            pyro.sample("x", dist.Normal((b * torch.arange(5.0)).sum(-1), 1.0), obs=torch.ones(40))

    def guide():
        with pyro.plate("rows", 40):
            pyro.sample("b", dist.Bernoulli(logits=w).to_event(1))

    def gradient(estimator):
        pyro.set_rng_seed(1)
        return torch.autograd.grad(estimator.differentiable_loss(model, guide), w)[0]

    def disarms(first, logits, count):
        p = logits.sigmoid()
        return [(1 - uniform_given(first, p) < p).to(first)]

    given, p = LOGITS.expand(DRAWS, -1), LOGITS.sigmoid()
    first = torch.bernoulli(given.sigmoid())
    agree = (first == antithetic_bits(first, given, 2)[0]).double().mean(0)
    assert ((agree - (2 * p - 1).abs()).abs() < 4.5 * (0.25 / DRAWS) ** 0.5).all()
    monkeypatch.setattr(arms, "antithetic_bits", disarms)
    torch.testing.assert_close(gradient(ARMS(2)), gradient(DisARM()), rtol=1e-12, atol=1e-14)


def total_variance(estimator):
    torch.manual_seed(0)
    return per_sample(CASES["vector_of_bits"], estimator, 20_000)[0].var(0).sum()


def test_more_draws_have_less_variance_at_equal_evaluations():
    """ARMS(4) of four evaluations against DisARM twice, of four as well."""
    assert total_variance(ARMS(4)) < 0.95 * total_variance(DisARM(2))


def test_one_draw_is_refused():
    with pytest.raises(UserError, match="ARMS of 1 draws: give at least 2"):
        ARMS(1)
