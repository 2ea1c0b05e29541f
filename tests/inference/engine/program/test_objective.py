"""A step's objective: −ELBO per datum unless a weight of the KL is given, and then exactly that."""

import copy

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

from guides.prior import Prior
from inference.engine.program.objective import backward, bound, with_weighted_kl
from inference.engine.program.program import Program
from inference.estimators import Pathwise
from tests.support.examples import local

SIZE, ROWS = 40, 8


def made():
    torch.manual_seed(0)
    model, guide, data = local(SIZE)
    program = Program(model, guide)
    batch = {"x": data["x"][:ROWS]}
    program.initialise(batch, SIZE)
    return program, batch


def by_hand(program, batch, beta):
    """(−E log p(x | z) + β KL, per datum, at one draw; its gradients)."""
    x, model, guide = batch["x"], program.model, program.guide
    loc, scale = guide.a * x + guide.b, guide.s
    pyro.set_rng_seed(3)
    z = torch.distributions.Normal(loc, scale).rsample()
    log_q = torch.distributions.Normal(loc, scale).log_prob(z)
    log_p = torch.distributions.Normal(model.m, 1.0).log_prob(z)
    log_x = torch.distributions.Normal(z, 1.0).log_prob(x)
    loss = (beta * (log_q - log_p) - log_x).mean()
    return loss, torch.autograd.grad(loss, list(program.parameters.values()))


@pytest.mark.parametrize("estimator", [Pathwise(), Trace_ELBO(), TraceGraph_ELBO()], ids=type)
@pytest.mark.parametrize("weight", [{}, {"beta": 1.0}, {"beta": 0.3}])
def test_the_loss_per_datum_and_its_gradient(estimator, weight):
    program, batch = made()
    expected, gradients = by_hand(program, batch, weight.get("beta", 1.0))
    pyro.set_rng_seed(3)
    loss = backward(copy.deepcopy(estimator), program, batch, **weight)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
    for parameter, gradient in zip(program.parameters.values(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-14)


def test_a_bound_is_per_datum_and_leaves_no_gradient():
    program, batch = made()
    expected, _ = by_hand(program, batch, 1.0)
    pyro.set_rng_seed(3)
    assert bound(Pathwise(), program, batch) == pytest.approx(-float(expected.detach()), rel=1e-12)
    assert all(parameter.grad is None for parameter in program.parameters.values())


def test_a_weight_of_one_is_none():
    program, _ = made()
    assert with_weighted_kl(program, 1.0) == (program.model, program.guide)
    assert with_weighted_kl(program, 0.5) != (program.model, program.guide)
    assert with_weighted_kl(program, torch.tensor(1.0)) != (
        program.model,
        program.guide,
    )  # reads no value


def test_a_guide_that_is_the_prior_has_no_kl_to_weigh():
    program, batch = made()
    prior = Program(program.model, Prior(program.model))
    prior.initialise(batch, SIZE)
    assert with_weighted_kl(prior, 0.3) == (prior.model, prior.guide)
