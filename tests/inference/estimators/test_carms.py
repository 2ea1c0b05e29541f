"""CARMS against its definition: the coupling, its pairs' probabilities, ARMS, and enumeration."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import UserError
from inference.estimators import ARMS, CARMS, LeaveOneOut, arms, carms
from inference.estimators.arms import antithetic_bits
from inference.estimators.carms import Sticks
from tests.support.catalogue import CASES, Case, data
from tests.support.oracle import critical, exact, per_sample, worst_z

DRAWS = 200_000
PROBABILITIES = {
    "equal": [0.25, 0.25, 0.25, 0.25],
    "skewed": [0.01, 0.97, 0.015, 0.005],
    "two and two": [0.4, 0.1, 0.4, 0.1],
    "impossible ones": [0.0, 0.7, 0.0, 0.3],
    "three": [0.2, 0.5, 0.3],
}


def pairs(p, count):
    """(C, C) P(z_k = i, z_l = j) of two of K draws, by a loop over the sticks."""
    order, size = sorted(range(len(p)), key=lambda c: p[c]), len(p)
    found, both_left = torch.zeros(size, size), 1.0
    for at, c in enumerate(order):
        left = sum(p[d] for d in order[at:])
        pi = p[c] / left
        both = max(0.0, 2 * pi ** (1 / (count - 1)) - 1) ** (count - 1)
        found[c, c] = both_left * both
        for d in order[at + 1 :]:  # one takes c, the other goes on alone
            found[c, d] = found[d, c] = both_left * (pi - both) * p[d] / (left - p[c])
        both_left *= 1 - 2 * pi + both
    return found


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("name", PROBABILITIES)
def test_draws_have_their_probabilities_and_pairs_theirs(name, count):
    """Within 4.5 standard errors; every pair of possible categories can be drawn."""
    torch.manual_seed(count)
    p = torch.tensor(PROBABILITIES[name])
    expected = pairs(p.tolist(), count)
    torch.testing.assert_close(expected.sum(1), p, rtol=1e-12, atol=1e-15)
    apart = (p[:, None] * p > 0).fill_diagonal_(False)
    assert (expected[apart] > 0).all()
    first = dist.Categorical(p).sample((DRAWS,))
    sticks = Sticks.of(p.log().expand(DRAWS, -1), count)
    drawn = torch.stack([sticks.category(place) for place in sticks.draw(first)])
    assert torch.equal(drawn[0], first)
    for k in range(1, count):
        shares = torch.bincount(drawn[k], minlength=len(p)) / DRAWS
        assert ((shares - p).abs() <= 4.5 * (p * (1 - p) / DRAWS).sqrt()).all()
        for j in range(k):
            found = torch.bincount(drawn[j] * len(p) + drawn[k], minlength=len(p) ** 2) / DRAWS
            error = (expected * (1 - expected) / DRAWS).sqrt()
            assert ((found.reshape_as(expected) - expected).abs() <= 4.5 * error + 1e-12).all()


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("name", PROBABILITIES)
def test_weights_are_what_independent_pairs_are_to_these(name, count):
    p = torch.tensor(PROBABILITIES[name])
    sticks = Sticks.of(p.log(), count)
    places = sticks.order.argsort()
    found = sticks.weight(places[:, None], places[None])
    apart = (p[:, None] * p > 0).fill_diagonal_(False)
    expected = (p[:, None] * p / pairs(p.tolist(), count))[apart]
    torch.testing.assert_close(found[apart], expected, rtol=1e-12, atol=0)
    assert found.max() < 2


def test_two_categories_are_arms(monkeypatch):
    """Given the same draws, the gradient is ARMS's."""
    w = torch.tensor([-2.0, 0.3, 1.1]).expand(4, -1).clone().requires_grad_()
    first = torch.bernoulli(w.detach().sigmoid())
    others = antithetic_bits(first, w.detach(), 3)
    least = [torch.where(w.detach() < 0, bit, 1 - bit).unsqueeze(-1) for bit in others]
    monkeypatch.setattr(arms, "antithetic_bits", lambda *given: others)
    monkeypatch.setattr(carms, "antithetic_bits", lambda *given: least)

    def gradient(of, start, estimator):
        def program(phi):
            with pyro.plate("rows", 4):
                b = pyro.sample("b", of(phi).to_event(1))
                pyro.factor("cost", (b * torch.arange(1.0, 4.0)).sum(-1) ** 2, has_rsample=True)

        def guide():
            with pyro.plate("rows", 4):
                pyro.sample("b", of(w).to_event(1))

        trace = pyro.poutine.trace(guide).get_trace()
        trace.nodes["b"]["value"] = start
        replayed = pyro.poutine.replay(guide, trace=trace)
        loss = estimator.differentiable_loss(lambda: program(0 * w.detach()), replayed)
        return torch.autograd.grad(loss, w)[0]

    def two(phi):
        return dist.Categorical(logits=torch.stack([torch.zeros_like(phi), phi], -1))

    expected = gradient(lambda phi: dist.Bernoulli(logits=phi), first, ARMS(3))
    found = gradient(two, first.long(), CARMS(3))
    assert (expected.abs() > 0.1).sum() >= 6
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def categories(kind):
    """Two numbers of four categories, one equal and one very skewed, which a cost couples."""

    def of(w):
        logits = w.unflatten(-1, (2, 4))
        return getattr(dist, kind)(logits=logits).to_event(1)

    def index(z):
        return z.argmax(-1).to(torch.float64) if kind == "OneHotCategorical" else z.double()

    def guide(p):
        with data(1):
            pyro.sample("z", of(p["w"]))

    def model(p):
        with data(1):
            z = index(pyro.sample("z", of(torch.zeros(8))))
            pyro.factor("cost", (z[..., 0] - 1.2) ** 2 * (0.5 + z[..., 1]))

    w = [0.0, 0.0, 0.0, 0.0, 3.0, 0.0, -1.0, -2.0]
    return Case(model, guide, {"w": w}, kinds=frozenset({kind}))


@pytest.mark.parametrize("kind", ["Categorical", "OneHotCategorical"])
@pytest.mark.parametrize("count", [2, 4])
def test_numbers_of_an_event_are_unbiased(kind, count):
    case = categories(kind)
    torch.manual_seed(count)
    assert worst_z(case, CARMS(count), exact(case)[0], 0.05, 4) < critical(4)


@pytest.mark.parametrize("case", [CASES["categorical"], categories("Categorical")])
def test_quieter_than_independent_draws(case):
    def variance(estimator):
        torch.manual_seed(0)
        gradients, _ = per_sample(case, estimator, 20_000)
        return gradients[:, -len(case.params["w"]) :].var(0).sum()

    assert variance(CARMS(4)) < 0.95 * variance(LeaveOneOut(4))


def test_one_draw_and_other_sites_are_refused():
    with pytest.raises(UserError, match="CARMS of 1 draws: give at least 2"):
        CARMS(1)

    def bit():
        pyro.sample("b", dist.Bernoulli(0.5))

    with pytest.raises(UserError, match=r"but site 'b' is a Bernoulli: use ARMS\(4\)"):
        CARMS().differentiable_loss(bit, bit)
