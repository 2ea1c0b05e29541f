"""Every estimator on every program that it accepts is unbiased; it refuses the others.

One family of z-tests, at a family-wise error of 1e-4, each with enough samples to see a bias of
10 % of the gradient's norm (2 % in the slow tests) with probability .95.
"""

import pytest
import torch

from inference import UserError
from inference.estimators import VIMCO, GumbelSoftmax, NeuralBaseline, ScoreFunction
from tests.support.catalogue import CASES, X
from tests.support.estimators import BOUNDS, ELBOS, WEIGHED, pairs, refused
from tests.support.oracle import CHUNK, critical, exact, exact_pair_bound, per_sample, worst_z

TESTS = 6 * len(CASES) * (len(ELBOS) + len(BOUNDS))


class Row(torch.nn.Module):
    """A guess for each datum."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))

    def forward(self, x):
        return self.weight[0] * x + self.weight[1]


def check(name, build, expected, bias):
    torch.manual_seed(sum(map(ord, name)))
    assert worst_z(CASES[name], build(name), expected, bias, TESTS) < critical(TESTS)


@pytest.mark.parametrize(("name", "estimator"), list(pairs(ELBOS)))
def test_unbiased_within_10_per_cent(name, estimator):
    check(name, ELBOS[estimator][0], exact(CASES[name])[0], 0.10)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "estimator"), list(pairs(ELBOS)))
def test_unbiased_within_2_per_cent(name, estimator):
    check(name, ELBOS[estimator][0], exact(CASES[name])[0], 0.02)


@pytest.mark.parametrize(("name", "estimator"), list(pairs(BOUNDS, WEIGHED)))
def test_bounds_unbiased_within_10_per_cent(name, estimator):
    check(name, BOUNDS[estimator][0], exact_pair_bound(CASES[name])[0], 0.10)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "estimator"), list(pairs(BOUNDS, WEIGHED)))
def test_bounds_unbiased_within_2_per_cent(name, estimator):
    check(name, BOUNDS[estimator][0], exact_pair_bound(CASES[name])[0], 0.02)


@pytest.mark.parametrize("name", sorted(WEIGHED))
def test_the_bound_is_that_of_the_right_weights(name):
    """Value, too: within 4.5 standard errors; a third of the pair's gain on the ELBO would show."""
    case = CASES[name]
    torch.manual_seed(1)
    losses = torch.tensor([per_sample(case, VIMCO(2), CHUNK)[1] for _ in range(20)])
    expected, error = exact_pair_bound(case)[1], losses.std() / len(losses) ** 0.5
    assert abs(losses.mean() - expected) < 4.5 * error
    assert 6 * error < 0.33 * (exact(case)[1] - expected)


@pytest.mark.parametrize(("name", "estimator"), list(refused(ELBOS | BOUNDS)))
def test_refused_by_name_with_an_alternative(name, estimator):
    model, guide, _ = CASES[name].programs(1)
    with pytest.raises(UserError, match=r"(site|plate) '\w+' .*use \w+"):
        (ELBOS | BOUNDS)[estimator][0](name).differentiable_loss(model, guide)


def test_bounds_refuse_a_global_latent_under_subsampling():
    model, guide, _ = CASES["subsampled"].programs(1)
    with pytest.raises(UserError, match="plate 'data' shows a part of its elements"):
        VIMCO(2).differentiable_loss(model, guide)


def test_a_neural_baseline_is_unbiased():
    case = CASES["two_layers"]
    estimator = ScoreFunction(baseline=NeuralBaseline(Row(), lambda: X.expand(CHUNK, 3)))
    z = worst_z(case, estimator, exact(case)[0], 0.10, TESTS)
    assert z < critical(TESTS)


@pytest.mark.parametrize("hard", [False, True])
def test_the_test_sees_the_bias_of_gumbel_softmax(hard):
    estimator = GumbelSoftmax(temperature=1.0, hard=hard)
    z = worst_z(CASES["two_layers"], estimator, exact(CASES["two_layers"])[0], 0.10, TESTS)
    assert z > critical(TESTS)
