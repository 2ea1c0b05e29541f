"""The prior as guide: log p and log q of a draw cancel; what is left is unbiased and quiet."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from guides.prior import Prior
from inference.engine.program.objective import with_weighted_kl
from inference.engine.program.program import Program
from inference.estimators import (
    ARM,
    IWAE,
    REBAR,
    VIMCO,
    DisARM,
    DReG,
    LeaveOneOut,
    MovingAverage,
    Pathwise,
    ScoreFunction,
)
from inference.estimators.programs import guide_is_prior
from tests.support.catalogue import CASES, Case, X
from tests.support.oracle import critical, exact, exact_pair_bound, per_sample, worst_z


class FromPrior(Case):
    """A program of the catalogue whose guide is its model's prior; its own guide is not used."""

    def programs(self, replicates):
        model, _, leaves = super().programs(replicates)
        return model, Prior(model), leaves


class Unrecognised(FromPrior):
    """The same, and the estimator is not told that the guide is the prior."""

    def programs(self, replicates):
        model, guide, leaves = super().programs(replicates)
        return model, lambda: guide(), leaves


def of(kind, name):
    return kind(**vars(CASES[name]))


BITS = ["bernoulli", "two_layers", "mixed", "nested", "masked_draw", "scaled", "subsampled"]
PRIORS = {
    "ScoreFunction": (ScoreFunction, [*BITS, "crossed"]),
    "average": (lambda: ScoreFunction(baseline=MovingAverage()), ["two_layers", "nested"]),
    "LeaveOneOut": (LeaveOneOut, [*BITS, "markov", "parts_of_a_datum"]),
    "ARM": (ARM, ["two_layers", "mixed"]),
    "DisARM": (DisARM, BITS),
    "REBAR": (lambda: REBAR(temperature=0.7), BITS),
    "Pathwise": (Pathwise, ["normal", "hierarchy", "two_normals"]),
    "landing": (lambda: Pathwise(sticking_the_landing=True), ["normal", "hierarchy"]),
}
BOUNDS = {
    "VIMCO": (VIMCO, ["bernoulli", "two_layers", "mixed", "parts_of_a_datum"]),
    "IWAE": (lambda: IWAE(2), ["normal"]),
    "DReG": (lambda: DReG(2), ["normal"]),
}
TESTS = 6 * sum(len(names) for _, names in (PRIORS | BOUNDS).values())


def pairs(family):
    return [(estimator, name) for estimator, (_, names) in family.items() for name in names]


@pytest.mark.parametrize(("estimator", "name"), pairs(PRIORS))
def test_unbiased(estimator, name):
    """One family at 1e-4; a bias of 10 % of the gradient's norm would be seen."""
    case = of(FromPrior, name)
    torch.manual_seed(1)
    z = worst_z(case, PRIORS[estimator][0](), exact(case)[0], 0.10, TESTS)
    assert z < critical(TESTS)


@pytest.mark.parametrize(("estimator", "name"), pairs(BOUNDS))
def test_bounds_are_unbiased(estimator, name):
    case = of(FromPrior, name)
    torch.manual_seed(1)
    z = worst_z(case, BOUNDS[estimator][0](), exact_pair_bound(case)[0], 0.10, TESTS)
    assert z < critical(TESTS)


def hardly_seen(told):
    """(variance of LeaveOneOut(4)) where x says little of b, so that signals are nearly equal."""
    leaf = torch.full((20_000, 1), 0.4, dtype=torch.float64, requires_grad=True)

    def model():
        with pyro.plate("replicates", len(leaf), dim=-2), pyro.plate("data", 3, dim=-1):
            b = pyro.sample("b", dist.Bernoulli(logits=leaf))
            pyro.sample("x", dist.Normal(0.1 * b, 1.0), obs=X)

    prior = Prior(model)
    pyro.set_rng_seed(0)
    loss = LeaveOneOut(4).differentiable_loss(model, prior if told else lambda: prior())
    return torch.autograd.grad(loss, leaf)[0].var()


def test_leave_one_out_regains_its_point():
    assert hardly_seen(told=True) < 0.05 * hardly_seen(told=False)


class MinusOne(torch.nn.Module):
    """A constant baseline."""

    def forward(self, name, signal, args, kwargs):
        return signal.new_tensor(-1.0)


@pytest.mark.parametrize("name", ["bernoulli", "two_layers", "nested"])
def test_log_p_alone_is_a_baseline_of_minus_one(name):
    """What a bare score function loses when log p goes with log q: an accidental baseline."""
    found = []
    for kind, baseline in ((FromPrior, MinusOne()), (Unrecognised, None)):
        torch.manual_seed(3)
        found.append(per_sample(of(kind, name), ScoreFunction(baseline=baseline), 50)[0])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", BITS)
def test_the_value_is_that_of_the_two_runs(name):
    """The bound is the same with and without being told: 13 digits."""
    values = []
    for kind in (FromPrior, Unrecognised):
        torch.manual_seed(2)
        values.append(per_sample(of(kind, name), ScoreFunction(), 4)[1])
    assert values[0] == pytest.approx(values[1], rel=1e-13)


class Bound(torch.nn.Module):
    """A program that is a method."""

    def __init__(self):
        super().__init__()
        self.logit = torch.nn.Parameter(torch.tensor(0.3))

    def model(self):
        b = pyro.sample("b", dist.Bernoulli(logits=self.logit))
        pyro.sample("x", dist.Normal(b, 1.0), obs=torch.tensor(0.5))


def test_a_method_is_the_same_model_each_time_it_is_asked_for():
    owner = Bound()
    guide = Prior(owner.model)
    assert guide_is_prior(guide, owner.model)
    assert not guide_is_prior(guide, Bound().model)
    assert not guide_is_prior(owner.model, owner.model)


@pytest.mark.parametrize("beta", [0.3, torch.tensor(0.3)])
def test_no_weight_on_a_kl_of_zero(beta):
    owner = Bound()
    program = Program(owner.model, Prior(owner.model))
    assert with_weighted_kl(program, beta) == (program.model, program.guide)
