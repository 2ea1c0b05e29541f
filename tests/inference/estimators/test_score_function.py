"""The score function's own arithmetic: what a neural baseline is fitted by."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.estimators import LeaveOneOut, NeuralBaseline, ScoreFunction, VarGrad

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


@pytest.mark.parametrize("vectorize", [False, True])
def test_leave_one_out_by_hand(vectorize):
    """1/K Σ_k (signal_k − mean of the others) ∇log q(b_k), by a loop over three particles."""
    logits = torch.tensor([0.3, -0.8, 1.4], requires_grad=True)

    def of_logits(x):
        with pyro.plate("data", 3):
            pyro.sample("b", dist.Bernoulli(logits=logits))

    options = {"vectorize_particles": vectorize, "max_plate_nesting": 1}
    pyro.set_rng_seed(2)
    loss = LeaveOneOut(3, **options).differentiable_loss(model, of_logits, X)
    (found,) = torch.autograd.grad(loss, logits)
    pyro.set_rng_seed(2)
    p = logits.sigmoid().detach()
    b = torch.bernoulli(p.expand(3, 3)) if vectorize else torch.stack(
        [torch.bernoulli(p) for _ in range(3)]
    )  # fmt: skip
    log_q = dist.Bernoulli(logits=logits).log_prob(b)
    signal = dist.Bernoulli(0.3).log_prob(b) + dist.Normal(2 * b, 0.7).log_prob(X)
    signal = (signal - log_q).detach()
    surrogate = 0.0
    for k in range(3):
        others = [signal[j] for j in range(3) if j != k]
        surrogate = surrogate + ((signal[k] - sum(others) / 2) * log_q[k]).sum() / 3
    (expected,) = torch.autograd.grad(-surrogate, logits)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(loss.detach(), -signal.sum() / 3, rtol=1e-12, atol=0)


@pytest.mark.parametrize("vectorize", [False, True])
def test_var_grad_is_half_the_variance_of_the_log_ratio(vectorize):
    """Its gradient at fixed draws, for each datum; a division by K would be off by a quarter."""
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def of_logits(x):
        with pyro.plate("data", 3):
            pyro.sample("k", dist.Categorical(logits=logits))

    def of_place(x):
        with pyro.plate("data", 3):
            k = pyro.sample("k", dist.Categorical(torch.ones(3, 4) / 4))
            pyro.sample("x", dist.Normal(1.5 * k, 0.7), obs=x)

    options = {"vectorize_particles": vectorize, "max_plate_nesting": 1}
    pyro.set_rng_seed(4)
    loss = VarGrad(4, **options).differentiable_loss(of_place, of_logits, X)
    (found,) = torch.autograd.grad(loss, logits)
    pyro.set_rng_seed(4)
    q = dist.Categorical(logits=logits)
    k = q.expand([4, 3]).sample() if vectorize else torch.stack([q.sample() for _ in range(4)])
    log_p = torch.tensor(0.25).log() + dist.Normal(1.5 * k, 0.7).log_prob(X)
    ratio = q.log_prob(k) - log_p
    (expected,) = torch.autograd.grad(0.5 * ratio.var(0, unbiased=True).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
