"""Reweighted wake-sleep by hand: both phases' weights written out."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import UserError
from inference.estimators import ReweightedWakeSleep
from tests.support.examples import BIT_DATA as X
from tests.support.examples import bit_guide, bit_model


@pytest.mark.parametrize("particles", [2, 4])
@pytest.mark.parametrize("divergence", ["inclusive", "exclusive"])
def test_by_hand(particles, divergence):
    """Σ_k w̃_k log p for the model; for the guide Σ_k w̃_k log q, or the descent of KL(q ‖ p)."""
    phi, theta = torch.tensor(0.6, requires_grad=True), torch.tensor(1.3, requires_grad=True)
    pyro.set_rng_seed(6)
    options = {} if divergence == "inclusive" else {"divergence": divergence}
    estimator = ReweightedWakeSleep(particles, **options)
    loss = estimator.differentiable_loss(bit_model, bit_guide, phi, theta)
    found = torch.autograd.grad(loss, (phi, theta))
    pyro.set_rng_seed(6)
    b = torch.stack([torch.bernoulli((phi.detach() * X).sigmoid()) for _ in range(particles)])
    log_q = dist.Bernoulli(logits=phi * X).log_prob(b)
    log_p = dist.Bernoulli(0.3).log_prob(b) + dist.Normal(theta * b, 0.7).log_prob(X)
    log_w = (log_p - log_q).detach()
    share = log_w.softmax(0)
    weight = share
    if divergence == "exclusive":
        others = [(log_w.sum(0) - log_w[k]) / (particles - 1) for k in range(particles)]
        weight = (log_w - torch.stack(others)) / particles
    expected = -(share * log_p + weight * log_q).sum()
    torch.testing.assert_close(
        found, torch.autograd.grad(expected, (phi, theta)), rtol=1e-10, atol=1e-13
    )
    bound = log_w.exp().mean(0).log().sum()
    torch.testing.assert_close(loss.detach(), -bound, rtol=1e-12, atol=0)


def test_one_particle_has_nothing_to_weigh():
    with pytest.raises(UserError, match="2 or more"):
        ReweightedWakeSleep(1)
