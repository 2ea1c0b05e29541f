"""Exact is Σ_z q(z) [log p(x, z) − log q(z)] whatever a program does with its dimensions."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from inference import UserError
from inference.estimators import Exact, exact
from inference.estimators.exact import LARGEST, all_values, refuse_large
from tests.support.catalogue import CASES

X = torch.tensor([0.4, -1.0, 0.7], dtype=torch.float64)
P = [0.3, 0.5, 0.6]


def bits(p):
    pyro.sample("z", dist.Bernoulli(p).to_event(1))


def scores(loc):
    def model(p):
        z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.4).double()).to_event(1))
        with pyro.plate("data", 3):
            pyro.sample("x", dist.Normal(loc(z), 1.0), obs=X)

    return model


def chosen_row(p):
    k = pyro.sample("k", dist.Categorical(torch.ones(3).double() / 3))
    a = torch.arange(9.0).double().reshape(3, 3)
    with pyro.plate("data", 3):
        pyro.sample("x", dist.Normal(a[k], 1.0), obs=X)


def category(p):
    pyro.sample("k", dist.Categorical(p))


def regression(p):
    w = pyro.sample("w", dist.Bernoulli(torch.full((2,), 0.4).double()).to_event(1))
    with pyro.plate("data", 3):
        pyro.sample("x", dist.Normal(w[0] + w[1] * X, 1.0), obs=X)


def two_bits(p):
    pyro.sample("w", dist.Bernoulli(p[:2]).to_event(1))


def elements(p):
    """Bits in a plate, and a sum over them outside of it."""
    with pyro.plate("bits", 3):
        z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.4).double()))
    pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=X[0])


def elements_guide(p):
    with pyro.plate("bits", 3):
        pyro.sample("z", dist.Bernoulli(p))


def in_plate(p):
    with pyro.plate("bits", 3):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.4).double()))
        pyro.sample("x", dist.Normal(z, 1.0), obs=X)


def separate(p):
    zs = [pyro.sample(f"z{i}", dist.Bernoulli(torch.tensor(0.4).double())) for i in range(3)]
    with pyro.plate("data", 3):
        pyro.sample("x", dist.Normal(torch.stack(zs), 1.0), obs=X)


def separate_guide(p):
    for i in range(3):
        pyro.sample(f"z{i}", dist.Bernoulli(p[i]))


def branches(p):
    if pyro.sample("a", dist.Bernoulli(torch.tensor(0.4).double())) > 0:
        b = pyro.sample("b", dist.Categorical(torch.ones(4).double() / 4))
        pyro.sample("x", dist.Normal(b.double(), 1.0), obs=X[0])


def branches_guide(p):
    if pyro.sample("a", dist.Bernoulli(p[0])) > 0:
        pyro.sample("b", dist.Categorical(torch.stack([p[0], p[1], p[2], p[0]])))


def checked(p):
    """A program that says of what shape its latent is."""
    with pyro.plate("bits", 3):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.4).double()))
        assert z.shape == (3,)
        pyro.sample("x", dist.Normal(z, 1.0), obs=X)


PROGRAMS = {
    "batch": (in_plate, elements_guide, True),
    "event": (scores(lambda z: z), bits, False),
    "sum": (scores(lambda z: z.sum()), bits, False),
    "softmax": (scores(lambda z: z.softmax(0)), bits, False),
    "matrix": (scores(lambda z: torch.ones(3, 3).double().tril() @ z), bits, False),
    "transposed": (scores(lambda z: z @ torch.ones(3, 3).double().tril()), bits, False),
    "cumulative": (scores(lambda z: z.cumsum(0)), bits, False),
    "row": (chosen_row, category, False),
    "regression": (regression, two_bits, False),
    "outside": (elements, elements_guide, False),
    "stack": (separate, separate_guide, False),
    "branches": (branches, branches_guide, False),
    "checked": (checked, elements_guide, False),
}


def assignments(model, guide, p):
    """Every assignment's (log p, log q), by conditioning."""

    def extended(known):
        trace = poutine.trace(poutine.condition(guide, data=known)).get_trace(p)
        for name, site in trace.nodes.items():
            if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample":
                if name in known:
                    continue
                fn, shape = site["fn"], site["value"].shape
                base = getattr(fn, "base_dist", fn)
                atoms = base.enumerate_support(expand=False).flatten().tolist()
                for values in itertools.product(atoms, repeat=shape.numel()):
                    value = torch.tensor(values).to(site["value"]).reshape(shape)
                    yield from extended({**known, name: value})
                return
        known_model = poutine.trace(poutine.condition(model, data=known)).get_trace(p)
        yield known_model.log_prob_sum(), trace.log_prob_sum()

    yield from extended({})


def value_and_gradient(loss, p):
    return torch.cat([loss.detach()[None], torch.autograd.grad(loss, p)[0]])


@pytest.mark.parametrize("name", PROGRAMS)
def test_exact_is_the_sum_over_assignments(name):
    model, guide, at_once = PROGRAMS[name]
    p = torch.tensor(P, dtype=torch.float64, requires_grad=True)
    with pyro.validation_enabled(False):
        pairs = list(assignments(model, guide, p))
        loss = -sum(q.exp() * (joint - q) for joint, q in pairs)
        found = Exact(max_plate_nesting=1).differentiable_loss(model, guide, p)
    assert torch.allclose(value_and_gradient(found, p), value_and_gradient(loss, p), rtol=1e-12)
    (reason,) = exact._compared[model][guide].values()
    assert (reason is None) == at_once


def test_normal_latents_are_compared_too():
    """E (w₀ + w₁)² + … of two Normals whose values a program stacks."""
    p = torch.tensor([0.3, -0.5], dtype=torch.float64, requires_grad=True)

    def guide(p):
        for i in range(2):
            pyro.sample(f"w{i}", dist.Normal(p[i], 0.5))

    def model(p):
        zero = torch.zeros(()).double()
        w = torch.stack([pyro.sample(f"w{i}", dist.Normal(zero, 1.0)) for i in range(2)])
        pyro.sample("x", dist.Normal(w.sum(), 1.0), obs=zero)

    loss = Exact(nodes=8).differentiable_loss(model, guide, p)
    constant = 1.5 * math.log(2 * math.pi) - math.log(2 * math.pi * math.e * 0.25)
    expected = 0.5 * ((p**2).sum() + 0.5 + p.sum() ** 2 + 0.5) + constant
    assert torch.allclose(value_and_gradient(loss, p), value_and_gradient(expected, p), rtol=1e-12)


def test_a_sum_over_too_many_values_is_refused():
    def model():
        z = pyro.sample("z", dist.Bernoulli(0.4 * torch.ones(12)).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=torch.tensor(0.5))

    def guide():
        pyro.sample("z", dist.Bernoulli(0.3 * torch.ones(12)).to_event(1))

    with pytest.raises(UserError, match=r"at site 'x' the program does not treat leading.* 2,048"):
        Exact().differentiable_loss(model, guide)


def test_a_latent_that_the_guide_does_not_draw_is_refused():
    def model():
        z = pyro.sample("z", dist.Bernoulli(0.4), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.5))

    with pytest.raises(UserError, match="latent site 'z' of the model is not in the guide"):
        Exact().differentiable_loss(model, lambda: None)


def test_exact_keeps_nothing_between_its_calls():
    p = torch.tensor(P, dtype=torch.float64, requires_grad=True)
    estimator = Exact(max_plate_nesting=1)
    before = dict(vars(estimator))
    for name in ("batch", "sum", "batch"):
        model, guide, _ = PROGRAMS[name]
        estimator.differentiable_loss(model, guide, p)
    assert vars(estimator) == before


def test_the_comparison_draws_no_random_number():
    p = torch.tensor(P, dtype=torch.float64, requires_grad=True)
    before = torch.get_rng_state()
    Exact().differentiable_loss(scores(lambda z: z.sum()), bits, p)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["bernoulli", "nested", "normal", "two_normals", "categorical"])
def test_a_program_of_leading_dimensions_is_run_once(name):
    """What one run a value would hide: that its fast way has stopped to work."""
    model, guide, _ = CASES[name].programs(1)
    exact = Exact(max_plate_nesting=CASES[name].nesting + 1)
    assert len(list(exact._get_traces(model, guide, (), {}))) == 1


def test_a_table_may_have_the_largest_number_of_entries():
    refuse_large("z", LARGEST)
    with pytest.raises(UserError, match="at site 'z' has 10,000,001 entries"):
        refuse_large("z", LARGEST + 1)


def test_values_of_an_event_of_several_draws():
    two = dist.OneHotCategorical(torch.ones(3)).expand([2]).to_event(1)
    values = all_values(two)
    assert values.shape == (9, 2, 3)
    assert len({tuple(v.argmax(-1).tolist()) for v in values}) == 9
    assert (values.sum(-1) == 1).all()
    assert all_values(dist.Bernoulli(torch.ones(2, 3)).to_event(1)).shape == (8, 3)
    assert len(all_values(dist.Bernoulli(torch.ones(17)).to_event(1))) == 2**17
    assert all_values(dist.Categorical(torch.ones(4))).tolist() == [0, 1, 2, 3]


def test_an_impossible_value_counts_nothing_whatever_it_is():
    log_weight = torch.tensor([-math.inf, -1.0, -math.inf], requires_grad=True)
    value = torch.tensor([math.inf, 2.0, math.nan], requires_grad=True)
    total = exact.weighted(log_weight, value).sum()
    assert total.item() == pytest.approx(2 * math.exp(-1))
    total.backward()
    assert log_weight.grad.tolist() == value.grad.mul(2).tolist()
    assert value.grad.tolist() == [0.0, pytest.approx(math.exp(-1)), 0.0]


def test_programs_are_compared_again_at_another_shape():
    """All values at once are right for one row; for two, ``sum`` would take them all together."""
    p = torch.tensor([0.3, -0.5], dtype=torch.float64, requires_grad=True)

    def guide(x):
        for i in range(2):
            pyro.sample(f"b{i}", dist.Bernoulli(logits=p[i]))

    def model(x):
        b = [pyro.sample(f"b{i}", dist.Bernoulli(torch.tensor(0.5).double())) for i in range(2)]
        mean = b[0] + b[1] if len(x) == 1 else (b[0] + b[1]).sum()
        loc = mean.unsqueeze(-1).expand(*mean.shape, len(x))
        pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    for rows in (1, 2):
        x = torch.ones(rows, dtype=torch.float64)
        found = Exact().differentiable_loss(model, guide, x)
        q = p.sigmoid()
        on = torch.stack([1 - q, q])
        weights = on[:, 0, None] * on[:, 1]
        means = torch.tensor([[0.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        log_p = rows * (-0.5 * (1 - means) ** 2 - 0.5 * math.log(2 * math.pi))
        expected = -(weights * (log_p + 2 * math.log(0.5) - weights.log())).sum()
        gradients = [torch.autograd.grad(loss, p)[0] for loss in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
