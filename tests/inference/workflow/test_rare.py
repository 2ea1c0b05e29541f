"""Every rare value that a program could draw is drawn once, and nothing else changes."""

import pyro.distributions as dist
import pytest
import torch
from scipy.stats import poisson

from inference.workflow.auditing.rare import MAX_RARE_DRAWS, MakeRare, with_rare_draws

SMALL = 1e-5


def runs(draw, samples=500):
    torch.manual_seed(0)
    return [tuple(torch.as_tensor(v).flatten().tolist()) for v in with_rare_draws(draw, samples)]


def test_rare_bits_are_turned_one_at_a_time():
    p = torch.tensor([SMALL, 0.5, 1 - SMALL, 0.0])
    found = {(run[0], run[2], run[3]) for run in runs(lambda: dist.Bernoulli(p).sample())}
    assert found == {(1, 1, 0), (0, 0, 0)}


@pytest.mark.parametrize("kind", [dist.Categorical, dist.OneHotCategorical])
def test_rare_categories_are_drawn_and_impossible_ones_are_not(kind):
    def draw():
        value = kind(torch.tensor([[SMALL, 1 - SMALL, 0.0], [0.3, 0.3, 0.4]])).sample()
        return value.argmax(-1) if value.dim() == 2 else value

    assert [run[0] for run in runs(draw)] == [0]


def test_continuous_numbers_are_put_far_out():
    far = 4.753  # beyond it is one of 500 draws with probability 1e-3
    for draw in (
        lambda: dist.Normal(torch.zeros(1), 2.0).rsample() / 2,
        lambda: dist.Normal(torch.zeros(1), 2.0).sample() / 2,
        lambda: torch.randn(1),
        lambda: torch.randn_like(torch.zeros(1)),
    ):
        assert sorted(run[0] for run in runs(draw)) == pytest.approx([-far, far], abs=1e-3)
    low, high = sorted(run[0] for run in runs(lambda: torch.rand(1)))
    assert 0 < low < 1e-6 < 1 - 1e-6 < high < 1
    assert sorted(run[0] for run in runs(lambda: dist.Exponential(1.0).sample()))[1] > 13
    assert runs(lambda: dist.Poisson(torch.tensor([1e-3])).sample())[0][0] >= 1


def test_of_many_some_are_tried():
    assert len(runs(lambda: torch.randn(MAX_RARE_DRAWS))) == MAX_RARE_DRAWS
    assert len(runs(lambda: torch.randn(100), samples=7)) == 7


def test_without_a_target_all_stays_as_drawn():
    torch.manual_seed(3)
    plain = torch.randn(3), torch.bernoulli(torch.full((3,), SMALL)), torch.rand(2)
    torch.manual_seed(3)
    with MakeRare(500) as counted:
        watched = torch.randn(3), torch.bernoulli(torch.full((3,), SMALL)), torch.rand(2)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert counted.count == 6 + 3 + 4


def test_runs_that_the_program_does_not_take_are_left_out():
    def draw():
        k = int(dist.Poisson(torch.tensor(2.0)).sample())
        return torch.arange(9.0)[[k]]

    assert runs(draw) == []


def test_of_several_draws_one_is_changed():
    def draw():
        return torch.cat([torch.randn(1), torch.bernoulli(torch.tensor([SMALL])), torch.randn(2)])

    torch.manual_seed(0)
    for run in runs(draw):
        changed = [abs(v) > 4.7 for v in (run[0], run[2], run[3])] + [run[1] == 1]
        assert sum(changed) == 1
    assert len(set(runs(draw))) == 2 + 1 + 4


def test_weights_of_a_single_draw():
    found = runs(lambda: torch.multinomial(torch.tensor([3 * SMALL, 3 - 3 * SMALL]), 1))
    assert found == [(0,)]


def test_normal_numbers_about_a_mean():
    for draw in (
        lambda: torch.normal(torch.tensor([1.0, 2.0]), torch.tensor([0.1, 3.0])),
        lambda: torch.normal(mean=torch.tensor([1.0, 2.0]), std=torch.tensor([0.1, 3.0])),
    ):
        far = {(round((a - 1) / 0.1, 2), round((b - 2) / 3, 2)) for a, b in runs(draw)}
        extremes = sorted(v for pair in far for v in pair if abs(v) > 4.7)
        assert extremes == [-4.75, -4.75, 4.75, 4.75]


@pytest.mark.parametrize("rate", [0.5, 3.0, 100.0])
def test_rare_counts_are_rare_but_not_absurd(rate):
    """Beyond them is one of 500 draws with probability 1e-3 or less, and not less than 1e-9."""
    far = max(run[0] for run in runs(lambda: dist.Poisson(torch.tensor([rate])).sample()))
    beyond = 500 * poisson(rate).sf(far - 1)
    assert 1e-9 < beyond < 1e-3
