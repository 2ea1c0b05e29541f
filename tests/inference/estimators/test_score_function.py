"""The score function's own arithmetic: what a neural baseline is fitted by."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.estimators import NeuralBaseline, ScoreFunction

X = torch.tensor([0.4, -1.2, 2.0], dtype=torch.float64)


def model(x):
    with pyro.plate("data", 3):
        b = pyro.sample("b", dist.Bernoulli(0.3).expand([3]))
        pyro.sample("x", dist.Normal(2 * b, 0.7), obs=x)


def guide(x):
    with pyro.plate("data", 3):
        pyro.sample("b", dist.Bernoulli(torch.tensor([0.2, 0.6, 0.9])))


@pytest.mark.parametrize("particles", [1, 2])
def test_a_neural_baseline_descends_its_squared_error(particles):
    """Σ_n (signal_n − w x_n)², a mean over particles: gradient −2 Σ_n (signal_n − w x_n) x_n."""
    weight = torch.nn.Parameter(torch.tensor(0.3))
    estimator = ScoreFunction(particles, baseline=NeuralBaseline(lambda x: weight * x, lambda x: x))
    pyro.set_rng_seed(2)
    estimator.differentiable_loss(model, guide, X).backward()
    pyro.set_rng_seed(2)
    q, expected = torch.tensor([0.2, 0.6, 0.9]), 0.0
    for _ in range(particles):
        b = torch.bernoulli(q)
        signal = dist.Bernoulli(0.3).log_prob(b) + dist.Normal(2 * b, 0.7).log_prob(X)
        signal = signal - dist.Bernoulli(q).log_prob(b)
        expected = expected - 2 * ((signal - 0.3 * X) * X).sum() / particles
    torch.testing.assert_close(weight.grad, expected, rtol=1e-12, atol=0)
