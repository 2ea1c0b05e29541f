"""REBAR's and RELAX's own parameters descend the variance of the estimate, under the same draws."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.estimators import REBAR, RELAX
from inference.estimators.relaxed import conditional_logits, perturbed_logits
from tests.support.estimators import Bump

DATA = torch.tensor([0.4, -1.2, 2.0, 0.9], dtype=torch.float64)


def model():
    with pyro.plate("data", 4):
        b = pyro.sample("b", dist.Bernoulli(0.3).expand([4]))
        pyro.sample("x", dist.Normal(2 * b, 0.7), obs=DATA)


def gradients(estimator):
    """(the gradient in the guide's logits, {parameter of the estimator: its gradient})."""
    logits = torch.tensor([0.2, -0.6, 1.1, 0.4], requires_grad=True)

    def guide():
        with pyro.plate("data", 4):
            pyro.sample("b", dist.Bernoulli(logits=logits))

    estimator.zero_grad()
    pyro.set_rng_seed(5)
    estimator.loss_and_grads(model, guide)
    own = {n: p.grad.clone() for n, p in estimator.named_parameters() if p.requires_grad}
    return logits.grad, own


@pytest.mark.parametrize(
    "build",
    [
        lambda: REBAR(temperature=0.7, scale=0.6),
        lambda: RELAX(Bump(), temperature=0.8, scale=0.6),
    ],
    ids=["REBAR", "RELAX"],
)
def test_its_parameters_have_the_gradient_of_the_squared_estimate(build):
    """d ‖ĝ‖² / dθ by central differences; E ĝ does not depend on θ, so the variance's gradient."""
    estimator = build()
    found = gradients(copy.deepcopy(estimator))[1]
    step = 1e-5
    assert len(found) == (2 if type(estimator) is REBAR else 3)
    for name, slope in found.items():
        squares = []
        for sign in (1, -1):
            moved = copy.deepcopy(estimator)
            with torch.no_grad():
                moved.get_parameter(name).add_(sign * step)
            squares.append(gradients(moved)[0].square().sum())
        expected = (squares[0] - squares[1]) / (2 * step)
        assert abs(expected) > 0.01
        torch.testing.assert_close(slope, expected, rtol=1e-6, atol=0)


def signal(b, logits):
    """(4,) log p(x, b) − log q(b), continued to relaxed bits."""
    log_p = b * math.log(0.3 / 0.7) + math.log(0.7) + dist.Normal(2 * b, 0.7).log_prob(DATA)
    return log_p - (b * logits - (1 + logits.exp()).log())


def test_rebar_by_hand():
    """Tucker et al. 2017: [f(b) − c(z̃)] ∇log q(b) + ∇c(z) − ∇c(z̃); its average sees f − c."""
    estimator = REBAR(temperature=0.7, scale=0.6)
    found, _ = gradients(estimator)
    pyro.set_rng_seed(5)
    logits = torch.tensor([0.2, -0.6, 1.1, 0.4])
    b = torch.bernoulli(logits.sigmoid())
    v = torch.rand(4)

    def given(leaf):
        p = leaf.sigmoid()
        return leaf - torch.logit(torch.where(b == 1, v * p, p + v * (1 - p)))

    def c(z):
        return 0.6 * signal((z / 0.7).sigmoid(), logits)

    leaf = logits.clone().requires_grad_()
    z = given(leaf)
    (free,) = torch.autograd.grad(c(at := z.detach().requires_grad_()).sum(), at)
    (moved,) = torch.autograd.grad(c(z).sum(), leaf)
    gap = signal(b, logits) - c(z).detach()
    expected = gap * (b - logits.sigmoid()) + free - moved
    torch.testing.assert_close(found, -expected, rtol=1e-10, atol=1e-13)
    total, weight = estimator.average.averages["b"]
    torch.testing.assert_close(total / weight, gap.mean(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("vectorize", [False, True])
def test_its_value_is_the_mean_of_particles(vectorize):
    logits = torch.tensor([0.2, -0.6, 1.1, 0.4])

    def guide():
        with pyro.plate("data", 4):
            pyro.sample("b", dist.Bernoulli(logits=logits))

    pyro.set_rng_seed(5)
    estimator = REBAR(3, vectorize_particles=vectorize, max_plate_nesting=1)
    loss = estimator.loss(model, guide)
    pyro.set_rng_seed(5)
    p = logits.sigmoid()
    b = torch.bernoulli(p.expand(3, 4)) if vectorize else [torch.bernoulli(p) for _ in range(3)]
    expected = -sum(float(signal(row, logits).sum()) for row in b) / 3
    assert loss == pytest.approx(expected, rel=1e-12)


def test_its_average_is_a_baseline_beside():
    """The second step's score is charged with f − c less the first's mean of it."""
    estimator = REBAR(temperature=0.7, scale=0.6)
    first, _ = gradients(estimator)
    centre = estimator.average.averages["b"]
    second, _ = gradients(estimator)
    logits = torch.tensor([0.2, -0.6, 1.1, 0.4])
    pyro.set_rng_seed(5)
    score = torch.bernoulli(logits.sigmoid()) - logits.sigmoid()
    moved = (second - first) / score  # the loss is −ELBO
    torch.testing.assert_close(moved, (centre[0] / centre[1]).expand(4), rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", [dist.Bernoulli, dist.OneHotCategorical])
def test_perturbed_logits_given_the_draw(kind):
    """They decide for that draw; over draws they have the law of φ + noise: |z| < 4.5, six times.

    Of one-hot draws, φ is normalised: its mean is log softmax φ + γ, its variance π²/6.
    """
    count, logits = 200_000, torch.tensor([0.4, -0.9, 1.2])
    inner = kind(logits=logits.expand(count, 3))
    b = inner.sample()
    z = conditional_logits(inner, b)
    decided = (z > 0).double() if kind is dist.Bernoulli else torch.eye(3)[z.argmax(-1)]
    assert torch.equal(decided, b)
    if kind is dist.Bernoulli:
        mean, variance = logits, math.pi**2 / 3
    else:
        mean, variance = logits.log_softmax(-1) + 0.5772156649015329, math.pi**2 / 6
    squares = (z - mean).square()
    z_of_mean = (z.mean(0) - mean) / (variance / count) ** 0.5
    z_of_variance = (squares.mean(0) - variance) / squares.std(0) * count**0.5
    assert torch.cat([z_of_mean, z_of_variance]).abs().max() < 4.5


@pytest.mark.parametrize("kind", [dist.Bernoulli, dist.OneHotCategorical])
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_uniforms_at_their_ends_make_no_infinite_logits(kind, end, monkeypatch):
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, end))
    inner = kind(logits=torch.tensor([0.4, -0.9, 1.2]))
    for bit in (torch.zeros(3), torch.ones(3)) if kind is dist.Bernoulli else torch.eye(3):
        assert conditional_logits(inner, bit).isfinite().all()
    assert perturbed_logits(inner).isfinite().all()


def test_without_parameters_to_adapt_the_gradient_is_the_same():
    held = REBAR(temperature=0.7, scale=0.6).requires_grad_(False)
    logits = [gradients(estimator)[0] for estimator in (REBAR(temperature=0.7, scale=0.6), held)]
    assert torch.equal(*logits)
