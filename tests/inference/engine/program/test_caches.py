"""Transforms remember within a run, never beyond: flows train, in full batches and looked at."""

import functools

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoIAFNormal
from pyro.nn import PyroModule
from torch import nn

from inference import fit
from inference.engine.program.caches import Caches
from inference.engine.program.objective import backward
from inference.engine.program.program import Program

SIZE = 12
SGD = functools.partial(torch.optim.SGD, lr=1e-3 * SIZE)
quiet = functools.partial(fit, progress=False, precision="float64")


def data():
    generator = torch.Generator().manual_seed(0)
    return {"x": 0.5 * torch.randn(SIZE, 2, generator=generator, dtype=torch.float64)}


def nothing(x):
    pass


def observe(x, flows, clear):
    if clear:
        for flow in flows:
            flow.clear_cache()
    base = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
    with pyro.plate("data", SIZE, subsample=x):
        pyro.sample("x", dist.TransformedDistribution(base, flows), obs=x)


class Flow(PyroModule):
    def __init__(self, flow, clear=False):
        super().__init__()
        self.flow, self.clear = flow, clear

    def forward(self, x):
        observe(x, [self.flow], self.clear)

    def own(self):
        return list(self.flow.parameters())


class InAList(nn.Module):
    """Where no search among submodules finds it."""

    def __init__(self, flow, clear=False):
        super().__init__()
        self.flows, self.clear = [flow], clear

    def forward(self, x):
        pyro.module("flow", self.flows[0])
        observe(x, self.flows, self.clear)

    def own(self):
        return list(self.flows[0].parameters())


FLOWS = {
    "spline": lambda: T.spline(2, count_bins=4),
    "spline_coupling": lambda: T.spline_coupling(2, count_bins=4, hidden_dims=[4]),
    "affine_coupling": lambda: T.affine_coupling(2, hidden_dims=[4]),
    "permuted": lambda: T.iterated(2, T.affine_coupling, 2, hidden_dims=[4]),
}


@pytest.mark.parametrize("owner", [Flow, InAList])
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_trains_as_pyro_does_with_clear_cache(owner, name):
    torch.manual_seed(0)
    mine = owner(FLOWS[name]())
    torch.manual_seed(0)
    theirs = owner(FLOWS[name](), clear=True)
    before = [p.detach().clone() for p in theirs.own()]
    quiet(mine, nothing, data(), optimizer=SGD, steps=5, valid=data())
    pyro.clear_param_store()
    svi = SVI(theirs, nothing, pyro.optim.SGD({"lr": 1e-3}), Trace_ELBO())
    for _ in range(5):
        svi.step(data()["x"])
    pyro.clear_param_store()
    for mine_, other in zip(mine.own(), theirs.own(), strict=True):
        assert torch.allclose(mine_, other, rtol=1e-12, atol=1e-12)
    assert any(not torch.equal(a, b) for a, b in zip(before, theirs.own(), strict=True))


def test_a_flow_of_a_guide_scores_its_own_draws():
    """An inverse autoregressive flow has no other inverse than its memory."""

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", SIZE, subsample=x):
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    guide = AutoIAFNormal(model, hidden_dim=[4])
    before = None
    run = quiet(model, guide, data(), optimizer=SGD, steps=3, valid=data())
    before = {n: p.clone() for n, p in run.params.items()}
    run = quiet(model, guide, data(), optimizer=SGD, steps=3)
    assert all(not torch.equal(before[n], p) for n, p in run.params.items() if "bias" not in n)


def test_the_held_out_bound_is_that_of_the_parameters_of_now():
    torch.manual_seed(0)
    mine = Flow(FLOWS["spline"]())
    columns = data()
    run = quiet(mine, nothing, columns, optimizer=SGD, steps=3, valid=columns)
    mine.flow.clear_cache()
    with torch.no_grad():
        expected = -Trace_ELBO().loss(mine, nothing, **columns) / SIZE
    pyro.clear_param_store()
    assert float(run.trace["held_out"]["elbo"][0, -1]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("look", [torch.no_grad, torch.enable_grad])
def test_a_gradient_is_of_the_parameters_of_now_for_the_same_tensor(look):
    """Not cut off by a look without gradients, nor through the graph of an earlier step."""
    flow = Flow(T.affine_coupling(2, hidden_dims=[4]))
    program, batch = Program(flow, nothing), data()
    program.to(torch.device("cpu"), torch.float64)
    with program.scope():
        program.initialise(batch, SIZE)
        with look():
            Trace_ELBO().differentiable_loss(flow, nothing, **batch)
        with torch.no_grad():
            for parameter in flow.own():
                parameter.add_(0.1)
        backward(Trace_ELBO(), program, batch)
        found = [p.grad.clone() for p in flow.own()]
    flow.flow.clear_cache()
    loss = Trace_ELBO().differentiable_loss(flow, nothing, **batch) / SIZE
    expected = torch.autograd.grad(loss, flow.own())
    torch.testing.assert_close(found, list(expected), rtol=1e-12, atol=1e-14)


def test_nothing_of_before_or_after_the_watch():
    flow = T.spline(2)
    x = torch.zeros(3, 2)
    with torch.no_grad():
        flow(x)
    caches = Caches()
    with caches.watched():
        assert flow(x).requires_grad
        once = flow(x)
        assert flow(x) is once
        caches.forget()
        assert flow(x) is not once
    assert flow._cached_x_y == (None, None)


def test_transforms_call_themselves_again_afterwards():
    before = torch.distributions.Transform.__call__
    with Caches().watched(), Caches().watched():
        pass
    assert torch.distributions.Transform.__call__ is before
