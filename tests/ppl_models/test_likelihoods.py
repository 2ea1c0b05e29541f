"""Likelihoods of a pixel by hand: log-probabilities, means, draws."""

import pyro.distributions as dist
import pytest
import torch

from ppl_models.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    DiscretizedLogistic,
    Gaussian,
    LogisticBins,
)

OUTPUT = torch.tensor([[-3.0, 0.2, 0.6], [1.4, 0.5, 0.0]], dtype=torch.float64)
X = torch.tensor([[0.0, 17.0, 128.0], [255.0, 200.0, 3.0]], dtype=torch.float64) / 255


def test_bernoulli_is_minus_the_cross_entropy():
    p = OUTPUT.sigmoid()
    expected = (X * p.log() + (1 - X) * (1 - p).log()).sum()
    assert torch.allclose(Bernoulli()(OUTPUT, 2).log_prob(X), expected, rtol=1e-12)
    assert torch.equal(Bernoulli().mean(OUTPUT), p)


def test_gaussian_has_one_scale():
    likelihood = Gaussian()
    scale = torch.exp(torch.tensor(-1.0))
    expected = dist.Normal(OUTPUT, scale).log_prob(X).sum(-1)
    assert torch.allclose(likelihood(OUTPUT, 1).log_prob(X), expected, rtol=1e-12)
    assert torch.equal(likelihood.mean(OUTPUT), OUTPUT)


def test_discretised_logistic_by_its_equation():
    """Salimans et al. 2017, equation 2: half a bin is 1/510; the ends take the tails."""
    likelihood = DiscretizedLogistic()
    scale = torch.exp(torch.tensor(-2.0))
    above, below = ((X + side / 510 - OUTPUT) / scale for side in (1, -1))
    upper = torch.where(X == 1, 1.0, above.sigmoid())
    lower = torch.where(X == 0, 0.0, below.sigmoid())
    found = likelihood(OUTPUT, 2).log_prob(X)
    assert torch.allclose(found, (upper - lower).log().sum(), rtol=1e-9)
    assert torch.equal(likelihood.mean(OUTPUT), torch.tensor([[0.0, 0.2, 0.6], [1.0, 0.5, 0.0]]))


def test_logistic_draws_are_the_nearest_bins():
    bins = LogisticBins(OUTPUT, torch.tensor(1e-4), bins=11).expand([4, 2, 3])
    draws = bins.sample()
    assert draws.shape == (4, 2, 3)
    assert torch.allclose(draws, torch.tensor([[0.0, 0.2, 0.6], [1.0, 0.5, 0.0]]), atol=1e-9)
    assert bins.bins == 11


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_an_event_is_an_image(name):
    found = LIKELIHOODS[name]()(OUTPUT, 1)
    assert (found.batch_shape, found.event_shape) == ((2,), (3,))
