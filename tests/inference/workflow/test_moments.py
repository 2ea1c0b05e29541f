"""Moments of gradients against NumPy's; one gradient, its directions, its cost, by hand."""

import copy

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from inference.engine.program.program import Program
from inference.estimators import REBAR, DisARM, LeaveOneOut, MovingAverage, Pathwise, ScoreFunction
from inference.workflow.audit import audit
from inference.workflow.auditing import moments
from inference.workflow.auditing.moments import (
    Moments,
    count_evaluations,
    directions,
    gradient_of,
    placed,
    rounding,
    settle,
)
from tests.support.examples import Bits, Guess, local

GRADIENTS = torch.tensor(
    [[1.0, -2.0, 0.5], [3.0, 0.0, 0.7], [-1.0, 4.0, 0.1], [2.5, 1.0, -0.4]], dtype=torch.float64
)
ACROSS = torch.tensor([[1.0, 1.0, 0.0], [0.0, -2.0, 3.0]], dtype=torch.float64)


def measured():
    found = Moments(ACROSS)
    for i, gradient in enumerate(GRADIENTS):
        found.add(gradient, 0.1 * i)
    return found


def test_mean_variance_and_error_are_numpy_s():
    found, rows = measured(), GRADIENTS.numpy()
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.variance, rows.var(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(found.second_moment, np.square(rows).sum(1).mean(), rtol=1e-12)
    np.testing.assert_allclose(found.error, rows.std(0, ddof=1) / 2, rtol=1e-12)
    assert found.seconds == [0.0, 0.1, 0.2, pytest.approx(0.3)]
    one = Moments(ACROSS)
    one.add(GRADIENTS[0], 0.0)
    assert torch.equal(one.variance, torch.zeros(3))


def test_a_sample_is_the_gradients_lengths_and_how_far_they_can_go():
    found = measured()
    cast = GRADIENTS @ ACROSS.T
    sample = found.sample()
    torch.testing.assert_close(sample.draws, cast, rtol=1e-14, atol=0)
    farthest = (cast - cast.mean(0)).abs().amax(0)
    torch.testing.assert_close(sample.deviation, farthest, rtol=1e-14, atol=0)
    for rare in ([100.0, 0.0, 0.0], [-1.0, 2.0, 50.0], [torch.nan] * 3):
        found.add_rare(torch.tensor(rare))
    sample, far = found.sample(), torch.tensor([100.0, 146.0]) - cast.mean(0)
    torch.testing.assert_close(sample.draws, cast, rtol=1e-14, atol=0)
    torch.testing.assert_close(sample.deviation, far.abs(), rtol=1e-14, atol=0)


def test_rounding_may_take_half_of_the_largest_number_s_digits():
    found = rounding(torch.tensor([[1.0, -7.0], [2.0, 3.0]]), torch.float32)
    torch.testing.assert_close(found, torch.full((2,), 7 * 2.0**-11.5), rtol=1e-6, atol=0)


def test_few_parameters_are_directions_and_many_are_cast_at_random():
    program = made()[0]
    assert torch.equal(directions(32, program), torch.eye(32))
    assert directions(33, program).shape == (32, 33)
    many = directions(5000, program)
    assert abs(many.mean()) < 4.5 / many.numel() ** 0.5
    assert abs(many.std() - 1) < 4.5 / (2 * many.numel()) ** 0.5
    assert torch.equal(many, directions(5000, program))


def made():
    torch.manual_seed(0)
    model, guide, data = local(40)
    program = Program(model, guide)
    program.initialise(data, 40)
    return program, data


def test_a_gradient_is_that_of_the_loss_per_datum_and_nothing_is_left_of_the_last():
    program, batch = made()
    for _ in range(2):
        pyro.set_rng_seed(3)
        found = gradient_of(Pathwise(), program, batch)
    pyro.set_rng_seed(3)
    loss = Pathwise().differentiable_loss(program.model, program.guide, **batch) / 40
    parameters = list(program.parameters.values())
    expected = torch.autograd.grad(loss, parameters)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=0)
    program.parameters["unused"] = torch.nn.Parameter(torch.ones(2))
    assert torch.equal(gradient_of(Pathwise(), program, batch)[-2:], torch.zeros(2))


def discrete():
    torch.manual_seed(0)
    program, batch = Program(Bits(), Guess()), {"x": torch.randn(40)}
    program.initialise(batch, 40)
    return program, batch


@pytest.mark.parametrize(
    ("estimator", "runs"),
    [
        (ScoreFunction(), 1),
        (LeaveOneOut(3), 3),
        (LeaveOneOut(3, vectorize_particles=True, max_plate_nesting=1), 3),
        (DisARM(), 2),
        (REBAR(), 2),
    ],
)
def test_evaluations_are_runs_of_the_model(estimator, runs):
    program, batch = discrete()
    if estimator.vectorize_particles:
        program.guide.norm.eval()  # it keeps no leading dimensions
        program.guide.norm = torch.nn.Identity()
    assert count_evaluations(placed(estimator, program), program, batch) == runs


def test_state_settles_and_stays():
    """So many averages and steps of Adam as are said; afterwards the estimator only reads."""
    program, batch = discrete()
    settled = settle(placed(ScoreFunction(baseline=MovingAverage()), program), program, batch)
    weight = settled.baseline.averages["b"][1]
    assert float(weight) == pytest.approx(1 - 0.9**moments.SETTLING_STEPS, rel=1e-12)
    assert not settled.training
    rebar = placed(REBAR(), program)
    before = copy.deepcopy(rebar.state_dict())
    settle(rebar, program, batch)
    for name, parameter in rebar.named_parameters():
        moved = (parameter - before[name]).abs()
        assert 1e-3 < moved <= 1e-2 * moments.SETTLING_STEPS * 1.01
    state = copy.deepcopy(rebar.state_dict())
    gradient_of(rebar, program, batch)
    assert str(rebar.state_dict()) == str(state)


class Drifting(PyroModule):
    """x ~ N(c m, 1), where every run adds 1 to c: the gradient in m is c (c m - x)."""

    def __init__(self):
        super().__init__()
        self.m = torch.nn.Parameter(torch.tensor(2.0))
        self.register_buffer("c", torch.tensor(0.0))

    def forward(self, x):
        self.c += 1
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.c * self.m, 1), obs=x)


def test_a_gradient_leaves_no_trace_in_what_a_run_keeps():
    model, batch = Drifting(), {"x": torch.tensor([5.0])}
    program = Program(model, lambda x: None)
    with program.scope():
        program.initialise(batch, 1)
        for _ in range(3):
            assert float(gradient_of(Pathwise(), program, batch)) == -3.0
        found = audit(model, lambda x: None, batch, [Pathwise()], samples=5, progress=False)
    assert model.c == 0.0
    assert found.rows[0].variance == 0.0


def test_two_gradients_have_a_variance():
    found = Moments(ACROSS)
    for gradient in GRADIENTS[:2]:
        found.add(gradient, 0.0)
    np.testing.assert_allclose(found.variance, GRADIENTS[:2].numpy().var(0, ddof=1), rtol=1e-12)
