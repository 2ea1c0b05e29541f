"""A verdict's numbers by hand, from gradients that are made up."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
)

from inference.estimators import (
    IWAE,
    VIMCO,
    GumbelSoftmax,
    Pathwise,
    ReweightedWakeSleep,
    ScoreFunction,
    Wrapped,
)
from inference.workflow.auditing.bias import FAMILY_WISE_ERROR, log_wealth, resolution
from inference.workflow.auditing.moments import Moments
from inference.workflow.auditing.verdicts import (
    ExactGradient,
    Measured,
    bound_of,
    is_unbiased,
    of_guide_alone,
    verdicts,
)


class Two:
    """A program with two parameters, of one number and of two."""

    parameters = {"a": torch.zeros(1), "b": torch.zeros(2)}  # noqa: RUF012


def measured(mean, deviation, bound="ELBO", unbiased=True, count=200, evaluations=3):
    """Gradients whose mean and deviations are exactly these."""
    noise = torch.randn(count, 3)
    noise = (noise - noise.mean(0)) / noise.std(0)
    moments = Moments(torch.eye(3))
    for i, row in enumerate(torch.tensor(mean) + noise * torch.tensor(deviation)):
        moments.add(row, 0.001 * (i + 1))
    return Measured(ScoreFunction(), bound, unbiased, moments, evaluations)


def by_name(found, exact=None, quadrature=0.0, tests=5):
    if exact is not None:
        exact = ExactGradient(exact, torch.full_like(exact, quadrature))
    return {v.name: v for v in verdicts(Two(), found, exact, 7, tests)}


def test_against_the_exact_gradient():
    exact = torch.tensor([1.0, -2.0, 2.0])  # of norm 3
    mine = measured([1.4, -2.0, 1.7], [0.5, 1.0, 2.0])
    found = by_name({"mine": mine}, exact)["mine"]
    error = (0.25 + 1.0 + 4.0) / 200
    assert found.bias == pytest.approx(math.sqrt(0.16 + 0.09 - error) / 3, rel=1e-10)
    assert found.variance == pytest.approx(5.25, rel=1e-10)
    assert found.signal_to_noise == pytest.approx(3 / math.sqrt(5.25), rel=1e-10)
    assert found.by_parameter == {"a": pytest.approx(0.25), "b": pytest.approx(5.0)}
    assert (found.step, found.bound, found.evaluations) == (7, "ELBO", 3)
    assert found.milliseconds == pytest.approx(100.5)
    assert found.critical == pytest.approx(math.sqrt(2 * math.log(5 / FAMILY_WISE_ERROR)))
    sample = mine.moments.sample()
    shifted = type(sample)(sample.draws - exact, sample.deviation, 2 * sample.rounding)
    assert found.worst_z == pytest.approx(math.sqrt(2 * log_wealth(shifted)), rel=1e-6)
    assert found.resolution == pytest.approx(float(resolution(shifted, 5).norm()) / 3, rel=1e-6)


def test_what_the_quadrature_may_be_wrong_by_is_no_bias():
    exact = torch.tensor([1.0, -2.0, 2.0])
    mine = measured([1.001, -2.001, 1.999], [1e-6] * 3)
    for quadrature, seen in ((0.0, True), (0.0005, True), (0.0011, False)):
        found = by_name({"mine": mine}, exact, quadrature)["mine"]
        assert (found.worst_z > found.critical) == seen, quadrature
        assert found.resolution >= quadrature / 3


def test_no_bias_is_found_below_the_noise():
    found = by_name({"mine": measured([1.0, 0.0, 0.01], [1.0] * 3)}, torch.tensor([1.0, 0.0, 0.0]))
    assert found["mine"].bias == 0
    assert found["mine"].worst_z == 0


def test_without_it_the_most_precise_other_unbiased_one_of_the_bound_is_the_reference():
    found = by_name(
        {
            "mine": measured([2.0, 0.0, 0.0], [1.0] * 3),
            "loud": measured([1.0, 0.0, 0.0], [3.0] * 3),
            "quiet": measured([0.0, 2.0, 0.0], [0.5] * 3),
            "biased": measured([9.0, 9.0, 9.0], [0.1] * 3, unbiased=False),
            "other": measured([5.0, 5.0, 5.0], [0.1] * 3, bound="L_2"),
        }
    )
    assert found["mine"].against == found["loud"].against == "quiet"
    assert found["biased"].against == "quiet"
    assert found["quiet"].against == "mine"
    assert found["other"].against == ""
    noise = 3 * (1.0 + 0.25) / 200
    assert found["mine"].bias == pytest.approx(math.sqrt(8 - noise) / 2, rel=1e-10)
    assert math.isnan(found["other"].bias)
    assert math.isnan(found["other"].worst_z)
    assert found["other"].signal_to_noise == pytest.approx(math.sqrt(75) / math.sqrt(0.03))


def test_bounds_have_their_names():
    named = {
        "ELBO": [ScoreFunction(3), IWAE(1), Trace_ELBO(num_particles=2), Wrapped(TraceEnum_ELBO())],
        "L_3": [VIMCO(3), IWAE(3), ReweightedWakeSleep(3)],
        "TraceTailAdaptive_ELBO": [TraceTailAdaptive_ELBO(3, vectorize_particles=True)],
    }
    for name, estimators in named.items():
        assert [bound_of(e) for e in estimators] == [name] * len(estimators)
    assert bound_of(TraceEnum_ELBO(), ["z", "y"]) == "ELBO, summed over z, y"
    assert bound_of(Trace_ELBO(), ["z"]) == "ELBO, z drawn by the model"


def test_who_may_be_a_reference():
    yes = [ScoreFunction(), Pathwise(), VIMCO(2), Trace_ELBO(), TraceEnum_ELBO()]
    no = [
        GumbelSoftmax(),
        ReweightedWakeSleep(2),
        TraceMeanField_ELBO(),
        ScoreFunction(normalise=True),
    ]
    assert [is_unbiased(e) for e in yes] == [True] * len(yes)
    assert [is_unbiased(e) for e in no] == [False] * len(no)
    assert [is_unbiased(e, ["z"]) for e in (TraceEnum_ELBO(), ScoreFunction())] == [True, False]
    alone = [is_unbiased(e, (), ["u"]) for e in (Trace_ELBO(), TraceEnum_ELBO(), ScoreFunction())]
    assert alone == [False, True, True]


@pytest.mark.parametrize("q_z", [dist.Bernoulli(0.5), dist.Normal(0.0, 1.0)])
def test_sites_of_the_guide_alone_matter_where_a_draw_has_no_path(q_z):
    def guide():
        pyro.sample("u", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        pyro.sample("z", q_z)

    model = poutine.trace(lambda: pyro.sample("z", q_z)).get_trace()
    expected = [] if q_z.has_rsample else ["u"]
    assert of_guide_alone(model, poutine.trace(guide).get_trace()) == expected
