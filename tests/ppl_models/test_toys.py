"""Toys: their bound's gradient, and one estimate's variance, are those on paper."""

import pytest
import torch
from pyro.infer import Trace_ELBO

from ppl_models.toys import (
    ExpectedSquare,
    ExpectedSquareGuide,
    SquaredDistance,
    SquaredDistanceGuide,
)

N = 200_000
X = torch.zeros(N)


def gradient(model, guide):
    """Of the mean cost of N draws; over N, its variance is one draw's over N."""
    loss = Trace_ELBO().differentiable_loss(model, guide, X) / N
    return torch.autograd.grad(loss, list(guide.parameters()))[0]


def test_the_expected_square_s_gradient_is_2_a_mu():
    """μ = .4 · 2 + 3; the pathwise gradient 2az has variance 4a²."""
    mu, a = 3.8, 2.0
    found = gradient(ExpectedSquare(), ExpectedSquareGuide())
    assert abs(found - 2 * a * mu) < 4.5 * 2 * a / N**0.5
    guide = ExpectedSquareGuide(theta=-1.0, a=0.5, b=1.5)
    assert abs(gradient(ExpectedSquare(), guide) - 2 * 0.5 * 1.0) < 4.5 * 2 * 0.5 / N**0.5


def test_without_a_path_it_is_the_score_function():
    """The same mean, at the variance a²(μ⁴ + 14μ² + 15) of one estimate."""
    guide = ExpectedSquareGuide(theta=-1.0, a=0.5, b=1.5, reparameterised=False)
    found = gradient(ExpectedSquare(), guide)
    deviation = 0.5 * (1 + 14 + 15) ** 0.5
    assert abs(found - 1.0) < 4.5 * deviation / N**0.5


@pytest.mark.parametrize(("target", "logit"), [(0.45, 0.0), (0.3, 0.8)])
def test_the_squared_distance_s_gradient(target, logit):
    """(1 − 2t) σ(φ) σ(−φ), and the cost itself (1 − p) t² + p (1 − t)²."""
    default = (target, logit) == (0.45, 0.0)
    model = SquaredDistance() if default else SquaredDistance(target)
    guide = SquaredDistanceGuide() if default else SquaredDistanceGuide(logit)
    p = float(torch.sigmoid(torch.tensor(logit)))
    expected = (1 - 2 * target) * p * (1 - p)
    assert abs(gradient(model, guide) - expected) < 4.5 * (1 - target) ** 2 / N**0.5
    cost = Trace_ELBO().loss(model, guide, X) / N
    assert abs(cost - ((1 - p) * target**2 + p * (1 - target) ** 2)) < 4.5 * 0.5 / N**0.5
