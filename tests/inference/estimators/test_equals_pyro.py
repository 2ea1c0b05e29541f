"""Where the formulas coincide, loss and gradients equal Pyro's under the same seed, to 1e-12."""

import pyro
import pytest
import torch
from pyro.infer import (
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)

from inference.estimators import IWAE, Exact, Pathwise, ScoreFunction
from tests.inference.estimators.catalogue import CASES

REPARAMETERISED = ["normal", "two_normals"]
ONE_JUMP = ["bernoulli", "categorical", "one_hot", "vector_of_bits", "masked", "scaled"]
NOT_FOR_PYRO = ("vector_of_bits", "observed_outside")  # a product support; it warns of the latter
DISCRETE = [n for n, c in CASES.items() if "Normal" not in c.kinds and n not in NOT_FOR_PYRO]


def loss_and_gradients(elbo, name, guide_wrapper=None):
    """Loss and per-parameter gradients, from ``loss_and_grads`` where there is no other way."""
    model, guide, leaves = CASES[name].programs(1)
    guide = guide_wrapper(guide) if guide_wrapper else guide
    pyro.set_rng_seed(7)
    if hasattr(elbo, "differentiable_loss"):
        loss = elbo.differentiable_loss(model, guide)
        loss.backward()
    else:
        loss = elbo.loss_and_grads(model, guide)
    zero = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves.values()]
    return torch.cat([torch.as_tensor(loss).detach().reshape(1), *(g.flatten() for g in zero)])


def assert_equal(ours, pyros, name, wrapper=None):
    a, b = loss_and_gradients(ours, name), loss_and_gradients(pyros, name, wrapper)
    assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    assert b[1:].abs().max() > 1e-3


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("name", REPARAMETERISED)
def test_pathwise_is_trace_elbo(name, particles, vectorize):
    options = {
        "num_particles": particles,
        "vectorize_particles": vectorize,
        "max_plate_nesting": 2,
    }
    assert_equal(Pathwise(**options), Trace_ELBO(**options), name)


def test_analytic_kl_is_trace_mean_field_elbo():
    assert_equal(Pathwise(kl="analytic"), TraceMeanField_ELBO(), "normal")


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("name", ONE_JUMP)
def test_score_function_is_trace_elbo_with_one_discrete_site(name, vectorize):
    options = {"num_particles": 2, "vectorize_particles": vectorize, "max_plate_nesting": 2}
    assert_equal(ScoreFunction(**options), Trace_ELBO(**options), name)


@pytest.mark.parametrize("name", ["markov", "mixed", "one_hot"])
def test_score_function_is_trace_graph_elbo_along_a_chain(name):
    """Where each site depends on all before it, order and dependency give the same credit."""
    assert_equal(ScoreFunction(), TraceGraph_ELBO(), name)


@pytest.mark.parametrize("name", DISCRETE)
def test_exact_is_trace_enum_elbo(name):
    nesting = CASES[name].nesting + 1
    pyros = TraceEnum_ELBO(max_plate_nesting=nesting)
    assert_equal(Exact(max_plate_nesting=nesting), pyros, name, config_enumerate)


@pytest.mark.parametrize("vectorize", [False, True])
def test_iwae_is_renyi_elbo_for_a_batch_of_one(vectorize):
    """Pyro's takes the weights of the whole batch together, so only there they coincide."""
    options = {"num_particles": 4, "vectorize_particles": vectorize, "max_plate_nesting": 2}
    ours, pyros = IWAE(**options), RenyiELBO(alpha=0, **options)
    assert_equal(ours, pyros, "one_normal")
