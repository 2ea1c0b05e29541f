"""Plates that draw a subsample of their own: particles that are weighed together see the same."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.estimators import IWAE, VIMCO, LeaveOneOut, ReweightedWakeSleep, ScoreFunction

X = torch.tensor([0.0, 1.0, 5.0, -4.0])
SCORES = -2 * dist.Normal(0.0, 1.0).log_prob(X)  # two rows stand for four
PAIRS = {round(float(a + b), 3) for a, b in itertools.combinations(SCORES, 2)}
ZERO = dist.Delta(torch.tensor(0.0))


def rows():
    return pyro.plate("data", 4, subsample_size=2)


def model():
    """The latents say nothing of x: the bound is Σ log p(x), whatever K."""
    with rows() as shown:
        pyro.sample("z", ZERO)
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=X[shown])


def guide():
    with rows():
        pyro.sample("z", ZERO)


def sequential_model():
    for i in rows():
        pyro.sample(f"x_{i}", dist.Normal(pyro.sample(f"z_{i}", ZERO), 1.0), obs=X[i])


def sequential_guide():
    for i in rows():
        pyro.sample(f"z_{i}", ZERO)


def losses(estimator, programs, count=80):
    pyro.set_rng_seed(0)
    return [round(estimator.loss(*programs), 3) for _ in range(count)]


@pytest.mark.parametrize("build", [IWAE, VIMCO, ReweightedWakeSleep, LeaveOneOut])
@pytest.mark.parametrize("programs", [(model, guide), (sequential_model, sequential_guide)])
def test_a_weight_is_one_row_s(build, programs):
    """Each loss is that of some pair of rows, and all pairs come."""
    assert set(losses(build(3), programs)) == PAIRS


def test_without_comparison_each_particle_draws_its_own():
    """As in Pyro: a mean over particles, which sees more rows."""
    assert not set(losses(ScoreFunction(3), (model, guide))) <= PAIRS
