"""Marginal: exact where a site is alone, quieter than pairs, and refused where elements meet."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import UserError
from inference.estimators import ARMS, Exact, Marginal
from tests.support.catalogue import CASES
from tests.support.oracle import exact, per_sample


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "one_hot", "masked", "masked_draw"])
def test_a_site_that_is_alone_has_no_noise_but_the_path_s(name):
    """The gradient in the guide's parameters is the exact one, whatever was drawn."""
    case = CASES[name]
    found, _ = per_sample(case, Marginal(), 20)
    count = len(case.params["w"])
    expected = exact(case)[0][-count:].expand(20, -1)
    torch.testing.assert_close(found[:, -count:], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["Bernoulli", "Categorical", "OneHotCategorical"])
def test_numbers_of_an_event_move_one_at_a_time(kind):
    """A sum over single changes by hand, in a site of two numbers that the cost couples."""
    w = torch.tensor([[0.3, -0.2, 0.5], [-0.6, 0.1, 0.4]], requires_grad=True)
    phi = w[:, 0] if kind == "Bernoulli" else w

    def f(z):
        return (3 * z[..., 0] - 1) * (z[..., 1] + 0.5) ** 2

    def index(z):
        return z.argmax(-1).to(w) if kind == "OneHotCategorical" else z.to(w)

    def guide():
        pyro.sample("z", getattr(dist, kind)(logits=phi).to_event(1))

    def model():
        z = pyro.sample("z", getattr(dist, kind)(logits=phi.detach() * 0).to_event(1))
        pyro.factor("cost", f(index(z)))

    pyro.set_rng_seed(3)
    (found,) = torch.autograd.grad(Marginal().differentiable_loss(model, guide), w)
    pyro.set_rng_seed(3)
    q = getattr(dist, kind)(logits=phi)
    drawn = q.sample()
    total = torch.zeros(())
    for d in range(2):
        for s in range(2 if kind == "Bernoulli" else 3):
            z = drawn.clone()
            z[d] = torch.eye(3)[s] if kind == "OneHotCategorical" else s
            flat = getattr(dist, kind)(logits=phi.detach() * 0).log_prob(z).sum()
            signal = f(index(z)) + flat - q.log_prob(z).sum()
            total = total + q.log_prob(z)[d].exp() * signal.detach()
    (expected,) = torch.autograd.grad(-total, w)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_quieter_than_antithetic_draws():
    case = CASES["vector_of_bits"]

    def variance(estimator):
        torch.manual_seed(0)
        return per_sample(case, estimator, 5_000)[0][:, -3:].var(0).sum()  # the guide's

    assert variance(Marginal()) < variance(ARMS(4))


def test_values_are_those_of_the_elbo():
    torch.manual_seed(0)
    losses = torch.tensor([per_sample(CASES["two_layers"], Marginal(), 1000)[1] for _ in range(20)])
    expected = per_sample(CASES["two_layers"], Exact(max_plate_nesting=2), 1)[1]
    assert abs(losses.mean() - expected) < 4.5 * losses.std() / 20**0.5


def test_elements_that_a_later_site_may_see_together_are_refused():
    model, guide, _ = CASES["observed_outside"].programs(1)
    with pytest.raises(UserError, match=r"site 'b' at once, but site 'late', outside of plate"):
        Marginal().differentiable_loss(model, guide)
