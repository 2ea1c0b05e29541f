"""The audit's verdicts on random programs: false alarms, and biases that were planted.

Nine in ten of the programs reduce over a leading dimension; four in ten of the discrete latents
have values of probability 1e-4.
"""

import pyro
import pytest
import torch

from inference import audit
from inference.estimators import Exact, LeaveOneOut, ScoreFunction
from inference.estimators.base import Estimator
from inference.workflow.bias import FAMILY_WISE_ERROR, POWER
from tests.support.binomial import most
from tests.support.random_programs import random_program

SAMPLES = 100
PLANTED = 0.05


class Around(Estimator):
    """Draws about ``scale`` × the exact gradient, with normal noise of an eightieth of its norm."""

    def __init__(self, exact, scale):
        super().__init__()
        self.exact, self.scale = exact, scale
        gradient = torch.cat([g.flatten() for g in exact.values()])
        self.noise = gradient.norm() / 80 / len(gradient) ** 0.5

    def estimate(self, programs, draws):
        raise NotImplementedError

    def differentiable_loss(self, model, guide, *args, **kwargs):
        leaves = pyro.get_param_store()._params
        return sum(
            ((self.scale * g + self.noise * torch.randn_like(g)) * leaves[name]).sum()
            for name, g in self.exact.items()
        )


def exact_gradient(program):
    """By parameter."""
    with pyro.get_param_store().scope():
        loss = Exact(max_plate_nesting=1).differentiable_loss(
            program.model, program.guide, **program.data
        )
        leaves = pyro.get_param_store()._params
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def verdicts(seed):
    """By name: of two unbiased estimators, of draws about the exact gradient, and beside it."""
    program = random_program(seed)
    exact = exact_gradient(program)
    estimators = {"score": ScoreFunction(), "pair": LeaveOneOut(2)}
    estimators |= {"around": Around(exact, 1.0), "planted": Around(exact, 1 + PLANTED)}
    found = audit(
        *(program.model, program.guide, program.data, estimators),
        samples=SAMPLES,
        seed=seed,
        progress=False,
    )
    assert found.reference == "the exact gradient", (seed, found.inexact)
    return {row.name: row for row in found.rows}


def check(seeds):
    """False alarms within the stated error, planted biases seen with the stated power."""
    alarms, could, seen, unsure = [], 0, 0, 0
    for seed in seeds:
        rows = verdicts(seed)
        alarms += [(seed, name) for name in ("score", "pair", "around") if rows[name].biased]
        could += rows["planted"].resolution <= PLANTED
        seen += rows["planted"].biased and rows["planted"].resolution <= PLANTED
        unsure += rows["planted"].says == "cannot tell"
        assert rows["planted"].says != "unbiased" or rows["planted"].resolution <= PLANTED
    counts = {"audits": len(seeds), "false alarms": alarms, "could be seen": could}
    counts |= {"seen": seen, "cannot tell": unsure}
    print(counts)
    assert len(alarms) <= most(FAMILY_WISE_ERROR, len(seeds)), counts
    assert could - seen <= most(1 - POWER, could), counts
    assert could > len(seeds) / 2, counts


def test_a_few_random_programs():
    check(range(1, 3))


@pytest.mark.slow
def test_two_hundred_random_programs():
    check(range(200))
