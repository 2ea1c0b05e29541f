"""The test for a bias: its level and power on distributions where a t-test fails, by simulation."""

import itertools
import math

import pytest
import torch

from inference.workflow.auditing.bias import (
    FAMILY_WISE_ERROR,
    POWER,
    Sample,
    log_level,
    log_wealth,
    resolution,
)
from tests.support.binomial import most

N = 500


def rare(probability):
    """Mean 0: 1/p − 1 with probability p, else −1."""
    hit = torch.rand(N, 1, dtype=torch.float64) < probability
    return hit.double() / probability - 1, 1 / probability


def normal():
    draws = torch.randn(N, 1, dtype=torch.float64)
    return draws, float((draws - draws.mean()).abs().max())


def exponential():
    draws = torch.empty(N, 1, dtype=torch.float64).exponential_() - 1
    return draws, float((draws - draws.mean()).abs().max())


DRAWS = {
    "normal": normal,
    "exponential": exponential,
    "1 in 100": lambda: rare(1e-2),
    "1 in 10,000": lambda: rare(1e-4),
}


def sample(draws, deviation):
    nothing = torch.zeros(draws.shape[1], dtype=torch.float64)
    return Sample(draws, nothing + deviation, nothing)


@pytest.mark.parametrize("name", DRAWS)
def test_a_mean_that_is_right_is_called_right(name):
    torch.manual_seed(0)
    trials = 400
    alarms = sum(log_wealth(sample(*DRAWS[name]())) >= math.log(20) for _ in range(trials))
    assert alarms <= most(1 / 20, trials)


@pytest.mark.parametrize("name", ["normal", "exponential", "1 in 100"])
def test_a_bias_as_large_as_the_resolution_is_seen_with_the_stated_power(name):
    torch.manual_seed(1)
    trials, found = 60, 0
    for trial in range(trials):
        (draws, one), (fresh, other) = DRAWS[name](), DRAWS[name]()
        shift = resolution(sample(draws, max(one, other)), 3) * (1 if trial % 2 else -1)
        found += log_wealth(sample(fresh + shift, max(one, other))) >= log_level(3)
    assert trials - found <= most(1 - POWER, trials)


def test_the_t_test_that_this_replaces_cries_wolf():
    """Why: what carries the mean was not drawn, and the draws agree with each other."""
    torch.manual_seed(0)
    alarms = 0
    for _ in range(50):
        draws, _ = rare(1e-4)
        z = draws.mean().abs() / (draws.std() / N**0.5 + 1e-12)
        alarms += bool(z > 4.3)
    assert alarms > 25


def test_wealth_is_by_hand():
    """Two draws, one direction; stakes of ½, ¼, ⅛ of 1/reach, either sign."""
    draws, reach = torch.tensor([[0.3], [-0.1]], dtype=torch.float64), 1.5 * 0.4 + 0.1
    wealth = [
        (1 + s * k * 0.3 / reach) * (1 - s * k * 0.1 / reach)
        for k in (0.5, 0.25, 0.125)
        for s in (1, -1)
    ]
    expected = math.log(sum(wealth) / len(wealth))
    assert log_wealth(sample(draws, 0.4)) == pytest.approx(expected, rel=1e-12)


def test_a_constant_is_right_or_wrong_at_once():
    draws = torch.full((N, 1), 2.0, dtype=torch.float64)
    assert log_wealth(sample(draws - 2, 0.0)) == pytest.approx(0)
    assert log_wealth(sample(draws - 1.9, 0.0)) > log_level(100)
    within = Sample(draws - 1.9, torch.zeros(1).double(), torch.full((1,), 0.2).double())
    assert log_wealth(within) < 0


def test_the_level_is_shared():
    assert log_level(10) == pytest.approx(math.log(10 / FAMILY_WISE_ERROR))


def skewed():
    torch.manual_seed(2)
    return exponential()


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_the_resolution_has_the_draws_unit(factor):
    draws, deviation = skewed()
    one = resolution(sample(draws, deviation), 3)
    scaled = resolution(sample(factor * draws, factor * deviation), 3)
    torch.testing.assert_close(scaled, factor * one, rtol=1e-3, atol=0)


def test_a_bias_is_as_hard_to_see_on_either_side():
    draws, deviation = skewed()
    for one in (draws, -draws):
        found = resolution(sample(one, deviation), 3)
        assert torch.equal(found, resolution(sample(draws, deviation), 3))


def test_the_resolution_is_the_same_wherever_the_mean_is():
    draws, deviation = skewed()
    moved = resolution(sample(draws + 3.0, deviation), 3)
    torch.testing.assert_close(moved, resolution(sample(draws, deviation), 3), rtol=1e-6, atol=0)


def test_stakes_are_halved_down_to_the_optimum():
    """For 1,024 draws: four of them, from half of what could be lost at once."""
    torch.manual_seed(0)
    draws = torch.randn(1024, 1).double()
    stakes = list(sample(draws, draws.abs().max()).stakes(torch.zeros(1).double()))
    assert len(stakes) == 4
    assert [float(b / a) for a, b in itertools.pairwise(stakes)] == [0.5] * 3
