"""Where the formulas coincide, loss and gradients equal Pyro's under the same seed, to 1e-12."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import (
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)

from inference.estimators import IWAE, DecayingAverage, Exact, Pathwise, ScoreFunction, Wrapped
from tests.support.catalogue import CASES

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
        loss = loss[0] if isinstance(loss, tuple) else loss
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


@pytest.mark.parametrize(
    "build",
    [
        TraceGraph_ELBO,
        partial(RenyiELBO, alpha=0, num_particles=3),
        partial(ReweightedWakeSleep, num_particles=3),
        Trace_ELBO,
    ],
)
def test_wrapped_is_what_it_wraps(build):
    """Value and gradient; what stood in .grad before is untouched until backward."""
    plain = loss_and_gradients(build(), "one_normal")
    model, guide, leaves = CASES["one_normal"].programs(1)
    for leaf in leaves.values():
        leaf.grad = torch.ones_like(leaf)
    pyro.set_rng_seed(7)
    loss = Wrapped(build())(WithLeaves(model, leaves), guide)()
    assert all((leaf.grad == 1).all() for leaf in leaves.values())
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    wrapped = torch.cat([loss.detach()[None], *(g.flatten() for g in gradients)])
    assert torch.allclose(wrapped, plain, rtol=1e-12, atol=1e-12)


def test_the_decaying_average_is_of_what_is_not_reparameterised():
    """As Pyro's own baseline, asked for at those sites by hand: two steps, the second with it."""

    def model():
        b = pyro.sample("b", dist.Bernoulli(0.3))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(b + z, 0.5), obs=torch.tensor(1.2))

    def guide(baseline):
        bias = pyro.param("bias", torch.tensor(0.4))
        pyro.sample("b", dist.Bernoulli(logits=bias), infer={"baseline": baseline})
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.2)), 1.0))

    found = []
    for elbo, baseline in (
        (DecayingAverage(), {}),
        (TraceGraph_ELBO(), {"use_decaying_avg_baseline": True}),
    ):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        for _ in range(2):
            elbo.loss_and_grads(model, partial(guide, baseline))
        store = pyro.get_param_store()
        assert any("baseline" in name for name in store._params)
        found.append({name: store._params[name].grad for name in ("bias", "loc")})
    assert found[0] == found[1]


class WithLeaves(torch.nn.Module):
    """A program that owns its parameters."""

    def __init__(self, program, leaves):
        super().__init__()
        self.program, self.leaves = program, list(leaves.values())

    def parameters(self, recurse=True):
        return iter(self.leaves)

    def forward(self):
        return self.program()
