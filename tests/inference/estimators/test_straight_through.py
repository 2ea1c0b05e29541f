"""Straight-through gradients: where ReinMax is exact, and what Gumbel-Rao averages."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.estimators import GumbelRao, GumbelSoftmax, ReinMax
from inference.estimators.relaxed import conditional_logits, hard_sample

PHI = torch.tensor([0.7, -0.4, 0.1], dtype=torch.float64)
MATRIX = torch.tensor([[2.0, -1, 0.5], [0.3, 1, -2], [1, 0.2, -1.5]], dtype=torch.float64)
DRAWS = 40_000
KINDS = {"Bernoulli": (dist.Bernoulli, PHI[:1]), "OneHotCategorical": (dist.OneHotCategorical, PHI)}


def quadratic(z):
    m = MATRIX[: z.shape[-1], : z.shape[-1]]
    return ((z @ m) * z).sum(-1) + 0.5 * z[..., 0]


def cubic(z):
    return quadratic(z) + 3 * z[..., 0] ** 3


def values(kind):
    return torch.eye(3) if kind == "OneHotCategorical" else torch.tensor([[0.0], [1.0]])


def exact(kind, f):
    distribution, phi = KINDS[kind]
    w = phi.clone().requires_grad_()
    q = distribution(logits=w)
    log_q = torch.stack([q.log_prob(z).sum() for z in values(kind)])
    return torch.autograd.grad((log_q.exp() * f(values(kind))).sum(), w)[0]


def expected(kind, f, monkeypatch):
    """The mean of ReinMax's gradient over its draws, by their probabilities."""
    distribution, phi = KINDS[kind]
    total = torch.zeros_like(phi)
    for z in values(kind):
        w = phi.clone().requires_grad_()
        inner = distribution(logits=w)
        monkeypatch.setattr(
            "inference.estimators.straight_through.hard_sample", lambda *_, z=z: z.clone()
        )
        relaxed = ReinMax().relaxed(inner)
        torch.testing.assert_close(relaxed.detach(), z)
        (slope,) = torch.autograd.grad(f(relaxed), w)
        total = total + inner.log_prob(z).sum().exp().detach() * slope
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_reinmax_is_exact_in_expectation_on_quadratics(kind, monkeypatch):
    found = expected(kind, quadratic, monkeypatch)
    torch.testing.assert_close(found, exact(kind, quadratic), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_and_not_on_cubics(kind, monkeypatch):
    bias = expected(kind, cubic, monkeypatch) - exact(kind, cubic)
    assert bias.norm() > 0.05 * exact(kind, cubic).norm()


def gradients(estimator, kind):
    distribution, phi = KINDS[kind]
    pyro.set_rng_seed(0)
    w = phi.expand(DRAWS, -1).clone().requires_grad_()

    def sites(logits):
        q = distribution(logits=logits)
        return q.to_event(1) if kind == "Bernoulli" else q

    def model():
        with pyro.plate("rows", DRAWS):
            z = pyro.sample("z", sites(torch.zeros_like(w)))
            pyro.factor("f", cubic(z))

    def guide():
        with pyro.plate("rows", DRAWS):
            pyro.sample("z", sites(w))

    return torch.autograd.grad(estimator.differentiable_loss(model, guide), w)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_gumbel_rao_has_the_mean_of_the_hard_draw_s_gradient_and_less_variance(kind):
    """|z| < 4.5; a difference of a tenth of the mean would be more than 6 standard errors."""
    hard, rao = gradients(GumbelSoftmax(hard=True), kind), gradients(GumbelRao(), kind)
    error = ((hard.var(0) + rao.var(0)) / DRAWS).sqrt()
    assert ((hard.mean(0) - rao.mean(0)).abs() < 4.5 * error).all()
    assert (6 * error < 0.1 * hard.mean(0).norm()).all()
    assert rao.var(0).sum() < 0.9 * hard.var(0).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_given_a_draw_gives_that_draw(kind):
    distribution, phi = KINDS[kind]
    inner = distribution(logits=phi.expand(1000, -1))
    draw = inner.sample()
    assert torch.equal(hard_sample(inner, conditional_logits(inner, draw)), draw)
