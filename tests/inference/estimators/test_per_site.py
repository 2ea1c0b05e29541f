"""Mixes of estimators: each the sum of its parts, unbiased, and refused where it cannot be."""

import random

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import UserError
from inference.estimators import (
    ARM,
    ARMS,
    REBAR,
    VIMCO,
    DisARM,
    GumbelSoftmax,
    LeaveOneOut,
    Marginal,
    MovingAverage,
    PerSite,
    ScoreFunction,
)
from tests.support.catalogue import CASES
from tests.support.oracle import critical, exact, per_sample, worst_z

MIXES = 40
KINDS = {
    "ScoreFunction": lambda: ScoreFunction(),
    "average": lambda: ScoreFunction(baseline=MovingAverage()),
    "LeaveOneOut": lambda: LeaveOneOut(2),
    "ARM": lambda: ARM(),
    "DisARM": lambda: DisARM(),
    "ARMS": lambda: ARMS(3),
    "Marginal": lambda: Marginal(),
    "REBAR": lambda: REBAR(temperature=0.7),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["rule", "default"])
def test_one_estimator_for_all_sites_is_that_estimator(kind, given):
    """Under the same seed, bit for bit."""

    def gradient(estimator):
        torch.manual_seed(7)
        return per_sample(CASES["two_layers"], estimator, 5)[0]

    mix = PerSite({"*": KINDS[kind]()}) if given == "rule" else PerSite({}, KINDS[kind]())
    assert torch.equal(gradient(mix), gradient(KINDS[kind]()))


def mixes():
    """(name of a program, its rules' kinds, the default's kind), drawn with a fixed seed."""
    generator = random.Random(0)
    names = sorted(n for n, c in CASES.items() if c.kinds <= {"Bernoulli", "Normal"})
    for _ in range(MIXES):
        kinds = list(KINDS)
        yield generator.choice(names), generator.choice(kinds), generator.choice(kinds)


@pytest.mark.parametrize(("name", "first", "rest"), list(mixes()))
def test_mixes_are_unbiased(name, first, rest):
    """The first discrete site by one estimator, the rest by another; 10 % of a bias is seen."""
    case = CASES[name]
    mix = PerSite({first_bit(case): KINDS[first]()}, KINDS[rest]())
    torch.manual_seed(sum(map(ord, name)))
    assert worst_z(case, mix, exact(case)[0], 0.10, MIXES) < critical(MIXES)


def first_bit(case):
    trace = pyro.poutine.trace(case.programs(1)[1]).get_trace()
    return next(n for n, s in trace.nodes.items() if s["type"] == "sample" and not_normal(s))


def not_normal(site):
    return not getattr(site["fn"], "has_rsample", True)


@pytest.mark.parametrize("rule", ["m", dist.Normal])
def test_a_normal_can_be_asked_for_its_score(rule):
    """No gradient passes through its draw; the gradient is unbiased all the same."""
    case = CASES["mixture"]
    build = PerSite({rule: LeaveOneOut(3)}, LeaveOneOut(3))
    assert worst_z(case, build, exact(case)[0], 0.10, 2) < critical(2)
    m = torch.tensor(0.5, requires_grad=True)

    def guide():
        pyro.sample("m", dist.Normal(m, 1.0))

    def model():
        z = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.factor("slope", 3 * z)

    pyro.set_rng_seed(0)
    loss = PerSite({rule: ScoreFunction()}).differentiable_loss(model, guide)
    (found,) = torch.autograd.grad(loss, m)
    pyro.set_rng_seed(0)
    z = torch.normal(torch.tensor(0.5), torch.tensor(1.0))
    signal = 3 * z + dist.Normal(0.0, 1.0).log_prob(z) - dist.Normal(0.5, 1.0).log_prob(z)
    torch.testing.assert_close(found, -signal * (z - 0.5), rtol=1e-12, atol=0)


def test_learned_parts_are_kept_and_found():
    mix = PerSite({"b": REBAR()}, ScoreFunction(baseline=MovingAverage()))
    assert any("log_temperature" in name for name, _ in mix.named_parameters())
    model, guide, _ = CASES["two_layers"].programs(1)
    mix.differentiable_loss(model, guide)
    assert any("averages" in name or "average" in name for name in mix.state_dict())


@pytest.mark.parametrize("whole", [VIMCO(2), GumbelSoftmax()])
def test_what_takes_a_program_whole_is_refused(whole):
    with pytest.raises(UserError, match=f"{type(whole).__name__} takes a program whole"):
        PerSite({"b": whole})


def test_different_numbers_of_particles_are_refused():
    with pytest.raises(UserError, match=r"have \[2, 4\] particles: give all of them the same"):
        PerSite({"b": LeaveOneOut(2)}, LeaveOneOut(4))
