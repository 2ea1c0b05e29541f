"""Relaxed draws' densities: log-probabilities of the ends, and on the straight line between."""

import pyro.distributions as dist
import pytest
import torch

from inference.estimators.relaxed import hard_sample, relaxed_distribution, relaxed_sample

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
