"""Coupled differences of counts against sums over all counts."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import UserError
from inference.estimators import CoupledDifference, ScoreFunction

ROWS = 70_000
START = torch.tensor([0.4, 1.1])
KINDS = {
    "Poisson": lambda w: dist.Poisson(w.exp()),
    "Geometric": lambda w: dist.Geometric(logits=w),
    "Geometric, probs": lambda w: dist.Geometric(w.sigmoid()),
    "Binomial": lambda w: dist.Binomial(7, logits=w),
    "Binomial, probs": lambda w: dist.Binomial(torch.tensor(2.0), w.sigmoid()),
}


def counts_of(kind):
    """(S,) the counts that have any probability to speak of."""
    if kind.startswith("Binomial"):
        return torch.arange(8.0 if kind == "Binomial" else 3.0)
    return torch.arange(60.0 if kind.startswith("Geometric") else 40.0)


def programs(w, kind, cost):
    """Two counts a row; the second's parameter depends on the first; the cost on both."""
    of = KINDS[kind]

    def guide():
        with pyro.plate("rows", len(w)):
            a = pyro.sample("a", of(w[:, 0]))
            pyro.sample("b", of(w[:, 1] - 0.1 * a))

    def model():
        with pyro.plate("rows", len(w)):
            a = pyro.sample("a", of(torch.zeros(len(w))))
            b = pyro.sample("b", of(torch.full((len(w),), 0.7)))
            pyro.factor("cost", -cost(a, b))

    return model, guide


def exact(kind, cost):
    """The gradient of the loss in ``START``, by a sum over all counts."""
    w, of = START.clone().requires_grad_(), KINDS[kind]
    a, b = torch.meshgrid(counts_of(kind), counts_of(kind), indexing="ij")
    log_q = of(w[0]).log_prob(a) + of(w[1] - 0.1 * a).log_prob(b)
    log_p = of(torch.tensor(0.0)).log_prob(a) + of(torch.tensor(0.7)).log_prob(b)
    loss = (log_q.exp() * (log_q - log_p + cost(a, b))).sum()
    return torch.autograd.grad(loss, w)[0]


def sampled(estimator, kind, cost):
    pyro.set_rng_seed(2)
    w = START.expand(ROWS, 2).clone().requires_grad_()
    return torch.autograd.grad(estimator.differentiable_loss(*programs(w, kind, cost)), w)[0]


def square(a, b):
    return 0.3 * (a + b) ** 2


def log(a, b):
    return torch.log1p(a + b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cost", [square, log])
def test_unbiased(cost, kind):
    """|z| < 4.5 in both figures; a bias of a tenth of the gradient would be 6 standard errors."""
    found, expected = sampled(CoupledDifference(), kind, cost), exact(kind, cost)
    error = found.std(0) / ROWS**0.5
    assert ((found.mean(0) - expected).abs() < 4.5 * error).all()
    assert (6 * error < 0.1 * expected.norm()).all()


def variance(estimator, kind, cost):
    """Of one count whose prior is q, so that the signal is the cost."""
    pyro.set_rng_seed(0)
    w = torch.full((ROWS,), 0.5, requires_grad=True)

    def program(w):
        with pyro.plate("rows", ROWS):
            z = pyro.sample("z", KINDS[kind](w.detach()))
            pyro.factor("cost", cost(z))

    def guide(w):
        with pyro.plate("rows", ROWS):
            pyro.sample("z", KINDS[kind](w))

    loss = estimator.differentiable_loss(program, guide, w)
    return torch.autograd.grad(loss, w)[0].var()


@pytest.mark.parametrize(
    ("kind", "share"), [("Poisson", 0.05), ("Geometric", 0.15), ("Binomial", 0.05)]
)
@pytest.mark.parametrize("cost", [lambda z: z**2, torch.log1p], ids=["square", "log"])
def test_far_quieter_than_the_score_function(cost, kind, share):
    """At most this share of its variance."""
    found = variance(CoupledDifference(), kind, cost) / variance(ScoreFunction(), kind, cost)
    assert found < share


def test_a_binomial_s_mean_has_no_noise():
    """∂ E z = n σ'(w), whether a trial more or one fewer is looked at."""
    assert variance(CoupledDifference(), "Binomial", lambda z: z) < 1e-20
    assert variance(CoupledDifference(), "Geometric", lambda z: z) > 1e-3


def test_no_trials_have_no_gradient():
    w = torch.tensor(0.3, requires_grad=True)
    count = torch.tensor([0.0, 3.0])

    def program(w):
        z = pyro.sample("z", dist.Binomial(count, logits=w.expand(2)).to_event(1))
        pyro.factor("cost", z[0] + 2 * z[1])

    loss = CoupledDifference().differentiable_loss(
        lambda w: program(w.detach()),
        lambda w: pyro.sample("z", dist.Binomial(count, logits=w.expand(2)).to_event(1)),
        w,
    )
    (found,) = torch.autograd.grad(loss, w)
    torch.testing.assert_close(found, -6 * w.sigmoid() * (1 - w.sigmoid()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["Poisson", "Geometric"])
def test_counts_of_an_event_move_one_at_a_time(kind):
    phi = torch.tensor([0.5, 2.0], requires_grad=True)

    def of(phi):
        return dist.Poisson(phi) if kind == "Poisson" else dist.Geometric(logits=phi)

    def guide():
        pyro.sample("z", of(phi).to_event(1))

    def model():
        z = pyro.sample("z", of(torch.ones(2)).to_event(1))
        pyro.factor("cost", z[0] * z[1])

    pyro.set_rng_seed(5)
    loss = CoupledDifference().differentiable_loss(model, guide)
    (found,) = torch.autograd.grad(loss, phi)
    pyro.set_rng_seed(5)
    z = of(phi.detach()).sample()

    def f(z):
        return (of(torch.ones(2)).log_prob(z) - of(phi).log_prob(z)).sum() + z[0] * z[1]

    one = torch.eye(2)
    expected = torch.stack([f(z) - f(z + one[d]) for d in range(2)])
    if kind == "Geometric":  # ∂ log σ(φ) = 1 − σ(φ)
        expected = -expected * (z + 1) * (1 - phi.sigmoid())
    torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-12)


def test_other_sites_are_refused_by_name():
    def bit():
        pyro.sample("b", dist.Bernoulli(0.5))

    said = "handles Poisson, Geometric and Binomial sites, but site 'b' is a Bernoulli"
    with pytest.raises(UserError, match=said):
        CoupledDifference().differentiable_loss(bit, bit)
