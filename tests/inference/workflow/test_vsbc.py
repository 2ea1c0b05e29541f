"""vsbc: its test has its level, finds planted misfits, and passes what is right."""

import math
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoMultivariateNormal
from pyro.optim import Adam

from inference import Calibration, UserError, vsbc
from inference.workflow.calibrating.report import CALIBRATED
from inference.workflow.calibrating.simulation import LIKELIHOOD, columns_of, rank, simulated
from inference.workflow.calibrating.uniformity import Band

ROWS = 6
X = {"x": torch.zeros(ROWS)}
quiet = partial(vsbc, progress=False, steps=1)


def nothing():
    """A parameter, which a guide must have, without effect."""
    return 0 * pyro.param("nothing", torch.tensor(0.0))


def normal(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def posterior_of_normal(x, width=1.0, shift=0.0):
    width = width / math.sqrt(ROWS + 1)
    pyro.sample("loc", dist.Normal(x.sum() / (ROWS + 1) + shift * width + nothing(), width))


def bits(x):
    with pyro.plate("data", ROWS, subsample=x):
        b = pyro.sample("b", dist.Bernoulli(torch.full((ROWS,), 0.3)))
        pyro.sample("x", dist.Normal(b, 0.7), obs=x)


def posterior_of_bits(x, factor=1.0):
    logits = math.log(0.3 / 0.7) + factor * (2 * x - 1) / (2 * 0.49)
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("b", dist.Bernoulli(logits=logits + nothing()))


def two(x):
    ab = [pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "ab"]
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("x", dist.Normal(sum(ab), 1.0), obs=x)


def posterior_of_two(x, dependent=True):
    """p(a | x) p(b | a, x); without the dependence, the best mean field."""
    if dependent:
        precision = 1 + 1 / (1 + 1 / ROWS)
        a = dist.Normal(x.mean() / (1 + 1 / ROWS) / precision + nothing(), precision**-0.5)
        rest = x.sum() - ROWS * pyro.sample("a", a)
        pyro.sample("b", dist.Normal(rest / (ROWS + 1), (ROWS + 1) ** -0.5))
        return
    for name in "ab":
        mean = x.sum() / (2 * ROWS + 1) + nothing()
        pyro.sample(name, dist.Normal(mean, (ROWS + 1) ** -0.5))


def prior_of_normal(x):
    pyro.sample("loc", dist.Normal(nothing(), 1.0))


def wrong_scale(x):
    """Each row counted four times."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", ROWS, subsample=x), poutine.scale(scale=4.0):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def posterior_of_wrong_scale(x):
    pyro.sample(
        "loc", dist.Normal(4 * x.sum() / (4 * ROWS + 1) + nothing(), (4 * ROWS + 1) ** -0.5)
    )


RIGHT = {
    "normal": (normal, posterior_of_normal),
    "bits": (bits, posterior_of_bits),
    "two dependent": (two, posterior_of_two),
}
WRONG = {
    "too narrow a guide": (normal, partial(posterior_of_normal, width=0.5), "loc", "too narrow"),
    "too wide a guide": (normal, partial(posterior_of_normal, width=2.0), "loc", "too wide"),
    "a guide beside": (normal, partial(posterior_of_normal, shift=1.0), "loc", "draws too high"),
    "a wrong scale": (wrong_scale, posterior_of_wrong_scale, "loc", "too narrow"),
    "a dropped dependence": (two, partial(posterior_of_two, dependent=False), "a", "too narrow"),
    "data that are ignored": (normal, prior_of_normal, LIKELIHOOD, "draws too low"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_passes(name):
    found = quiet(*RIGHT[name], X)
    assert found.calibrated, found


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_planted_misfit_is_found_and_named(name):
    model, guide, where, says = WRONG[name]
    found = quiet(model, guide, X)
    assert says in {row.name: row.says for row in found.rows}[where]


@pytest.mark.slow
def test_a_fit_that_has_not_ended_shows_and_one_that_has_passes():
    for steps, calibrated in ((5, False), (400, True)):
        guide = AutoMultivariateNormal(two)
        options = {"optimizer": Adam({"lr": 0.02}), "simulations": 40, "draws": 49}
        found = vsbc(two, guide, X, steps=steps, progress=False, **options)
        assert found.calibrated == calibrated, found


def test_too_narrow_a_guide_is_found_and_said(tmp_path):
    found = quiet(*WRONG["too narrow a guide"][:2], X, simulations=40, draws=49)
    assert not found.calibrated
    assert [row.says for row in found.rows if row.name == "loc"] == ["too narrow"]
    assert "too narrow" in str(found)
    assert "family-wise error 0.01" in str(found)
    found.plot(tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").stat().st_size > 5000


def test_the_same_call_gives_the_same_ranks_and_touches_no_program():
    a, b = (quiet(bits, posterior_of_bits, X, simulations=10, draws=9) for _ in range(2))
    assert list(a.ranks) == [f"b[{i}]" for i in range(ROWS)] + [LIKELIHOOD]
    for name, ranks in a.ranks.items():
        np.testing.assert_array_equal(ranks, b.ranks[name])
        assert set(ranks) <= set(range(10))


def uniform(draws, simulations, most):
    return draws.integers(most + 1, size=simulations)


@pytest.mark.parametrize(("simulations", "most"), [(40, 19), (100, 99)])
def test_uniform_ranks_are_rejected_at_the_level(simulations, most):
    """Of 2,000 sets at 5 %: 100 expected, and no more than chance allows (4 errors)."""
    band, draws = Band.of(simulations, most), np.random.default_rng(1)
    p = np.array([band.p_value(uniform(draws, simulations, most)) for _ in range(2000)])
    assert 60 <= (p < 0.05).sum() <= 139  # the statistic is discrete: at most the level


def test_a_curve_leaves_the_band_where_its_p_value_is_below_the_level():
    band, draws = Band.of(60, 49), np.random.default_rng(2)
    low, high = band.limits(0.2)
    for _ in range(300):
        ranks = uniform(draws, 60, 49)
        share = band.counts(ranks) / 60
        outside = bool(((share < low - 1e-9) | (share > high + 1e-9)).any())
        assert outside == (band.p_value(ranks) < 0.2)


def test_six_tenths_of_the_width_are_seen_with_power():
    """Of 100 simulations, N(0, 1) truths under draws of N(0, .6): in nine of ten repetitions."""
    band, draws = Band.of(100, 99), np.random.default_rng(3)
    places = dist.Normal(0.0, 1.0).cdf(torch.as_tensor(draws.standard_normal((100, 100)) / 0.6))
    ranks = (places.numpy() * 100).astype(int)
    assert sum(band.p_value(each) < 0.005 for each in ranks) >= 90


def test_ties_are_broken_evenly():
    ties, draws = np.random.default_rng(0), torch.tensor([0.0, 1.0, 1.0, 1.0, 2.0])
    found = [rank(torch.tensor(1.0), draws, ties) for _ in range(4000)]
    counts = np.bincount(found, minlength=6)
    assert counts[0] == counts[5] == 0
    assert abs(counts[1:5] - 1000).max() < 4.5 * math.sqrt(1000 * 0.75)
    near = torch.tensor([-3.0000001, -3.0, 5.0])
    assert {rank(torch.tensor(-3.0), near, ties) for _ in range(100)} == {0, 1, 2}


def test_data_are_drawn_given_the_latents_and_put_in_their_column():
    def regression(y, x):
        slope = pyro.sample("slope", dist.Normal(0.0, 10.0))
        with pyro.plate("data", ROWS, subsample=y):
            pyro.sample("y", dist.Normal(slope * x, 1e-3), obs=y)

    batch = {"x": torch.arange(6.0), "y": torch.zeros(6)}
    columns, truth = simulated(regression, batch)
    assert columns["x"] is batch["x"]
    assert list(truth) == ["slope"]
    np.testing.assert_allclose(columns["y"], truth["slope"] * batch["x"], atol=0.01)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda x: pyro.sample("y", dist.Normal(0.0, 1.0), obs=x[0] * 2 + 1), "'y' are no column"),
        (lambda x: pyro.factor("f", x.sum()), "'f' is a pyro.factor"),
        (lambda x: pyro.sample("z", dist.Normal(0.0, 1.0)), "observes nothing"),
    ],
)
def test_what_cannot_be_simulated_is_refused(model, says):
    trace = poutine.trace(model).get_trace(**X)
    with pytest.raises(UserError, match=says):
        columns_of(trace, X)


def test_too_few_simulations_are_refused():
    with pytest.raises(UserError, match="at least 10 and 9"):
        quiet(normal, posterior_of_normal, X, simulations=5)


def test_coverage_is_that_of_central_intervals():
    ranks = np.arange(100)
    (row,) = Calibration({"z": ranks}, 99, 0.01).rows
    assert row.coverage == (0.5, 0.9)
    assert row.says == CALIBRATED
