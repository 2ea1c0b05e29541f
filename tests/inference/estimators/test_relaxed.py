"""Relaxed draws' densities: log-probabilities of the ends, and on the straight line between."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.estimators import GumbelSoftmax
from inference.estimators.relaxed import (
    gumbel_like,
    hard_sample,
    perturbed_logits,
    relaxed_distribution,
    relaxed_sample,
)

LOGITS = torch.tensor([-2.0, 0.3, 1.7], dtype=torch.float64)
Z = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)


def test_a_relaxed_bit_s_density_is_the_line_between_its_two():
    bit = dist.Bernoulli(logits=LOGITS)
    one, zero = bit.log_prob(torch.ones(3)), bit.log_prob(torch.zeros(3))
    found = relaxed_distribution(bit).log_prob(Z)
    torch.testing.assert_close(found, Z * one + (1 - Z) * zero, rtol=1e-14, atol=0)


def test_a_relaxed_one_hot_s_density_is_the_mean_of_its_corners():
    corners = dist.OneHotCategorical(logits=LOGITS)
    weights = torch.tensor([0.1, 0.6, 0.3])
    expected = (weights * corners.log_prob(torch.eye(3))).sum()
    found = relaxed_distribution(corners).log_prob(weights)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("wrap", [lambda d: d.to_event(1), lambda d: d.mask(Z > 0.4)])
def test_events_and_masks_are_kept(wrap):
    bits = wrap(dist.Bernoulli(logits=LOGITS))
    ends = torch.tensor([0.0, 1.0, 1.0])
    found = relaxed_distribution(bits)
    assert (found.batch_shape, found.event_shape) == (bits.batch_shape, bits.event_shape)
    torch.testing.assert_close(found.log_prob(ends), bits.log_prob(ends), rtol=1e-14, atol=0)
    one, zero = bits.log_prob(torch.ones(3)), bits.log_prob(torch.zeros(3))
    half = found.log_prob(torch.full((3,), 0.5))
    torch.testing.assert_close(half, (one + zero) / 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", [dist.Bernoulli, dist.OneHotCategorical])
def test_a_hard_draw_has_the_soft_one_s_gradient(kind):
    """H(z) by value; dσ(z/τ)/dz or dsoftmax(z/τ)/dz, here by autograd of its formula."""
    inner, z = kind(logits=LOGITS), torch.tensor([0.4, -0.2, 1.1], requires_grad=True)
    soft = (
        (z / 0.6).sigmoid() if kind is dist.Bernoulli else (z / 0.6).exp() / (z / 0.6).exp().sum()
    )
    hard = relaxed_sample(inner, z, 0.6, hard=True)
    torch.testing.assert_close(relaxed_sample(inner, z, 0.6), soft, rtol=1e-12, atol=0)
    expected = [1.0, 0.0, 1.0] if kind is dist.Bernoulli else [0.0, 0.0, 1.0]
    torch.testing.assert_close(hard, torch.tensor(expected), rtol=0, atol=1e-15)
    assert torch.equal(hard_sample(inner, z), torch.tensor(expected))
    slopes = (torch.autograd.grad((v * Z).sum(), z)[0] for v in (hard, soft))
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=0)


def z_scores(draws, mean, variance):
    """Of a sample's mean and variance, (N,) draws, their fourth moment the sample's own."""
    centred = draws - mean
    error = centred.square().std() / len(draws) ** 0.5
    of_mean = (draws.mean() - mean) / (variance / len(draws)) ** 0.5
    return abs(float(of_mean)), abs(float((centred.square().mean() - variance) / error))


def test_noise_is_gumbel_s_and_logistic():
    """Mean γ and variance π²/6; mean φ and variance π²/3.  |z| < 4.5 in eight figures."""
    euler, many = 0.5772156649015329, torch.full((100_000,), 0.4)
    assert max(z_scores(gumbel_like(many), euler, math.pi**2 / 6)) < 4.5
    bits = perturbed_logits(dist.Bernoulli(logits=many))
    assert max(z_scores(bits, 0.4, math.pi**2 / 3)) < 4.5
    inner = dist.OneHotCategorical(logits=torch.tensor([0.3, -1.0]).expand(100_000, 2))
    for i, logit in enumerate(inner.logits[0].tolist()):
        found = perturbed_logits(inner)[:, i]
        assert max(z_scores(found, logit + euler, math.pi**2 / 6)) < 4.5


@pytest.mark.parametrize("kind", [dist.Bernoulli, dist.OneHotCategorical])
@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax_by_hand(kind, hard):
    """−[log p(x | z) + log p(z) − log q(z)] at the relaxed draw; its gradient through the draw."""
    logits = torch.tensor([0.4, -0.9, 1.2], requires_grad=True)
    weights = torch.tensor([1.0, -2.0, 0.7])

    def wrap(fn):
        return fn.to_event(1) if kind is dist.Bernoulli else fn

    def model(logits):
        z = pyro.sample("z", wrap(kind(logits=torch.zeros(3))))
        pyro.sample("x", dist.Normal((weights * z).sum(), 0.6), obs=torch.tensor(0.8))

    def guide(logits):
        pyro.sample("z", wrap(kind(logits=logits)))

    pyro.set_rng_seed(2)
    estimator = GumbelSoftmax(temperature=0.7, hard=hard)
    loss = estimator.differentiable_loss(model, guide, logits)
    pyro.set_rng_seed(2)
    z = relaxed_sample(inner := kind(logits=logits), perturbed_logits(inner), 0.7, hard)
    if kind is dist.Bernoulli:
        log_q = (z * logits - (1 + logits.exp()).log()).sum()
        log_p = -3 * math.log(2)
    else:
        log_q, log_p = (z * logits.log_softmax(-1)).sum(), -math.log(3) * z.sum()
    expected = log_q - log_p - dist.Normal((weights * z).sum(), 0.6).log_prob(torch.tensor(0.8))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    found, by_hand = (torch.autograd.grad(value, logits)[0] for value in (loss, expected))
    torch.testing.assert_close(found, by_hand, rtol=1e-10, atol=1e-14)
