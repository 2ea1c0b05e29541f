"""fit(compile=True): the numbers of fit, whatever the program, or a sentence why not."""

import contextlib
import copy
import gc
import itertools
import random
import resource
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.nn import PyroModule
from torch import nn

from guides.empty import Empty
from inference import UserError, fit
from inference.engine.capture.backends import interpreted
from inference.engine.capture.captured import Captured
from inference.engine.training import loop
from inference.engine.training.schedules import warm_up
from inference.estimators import (
    DecayingAverage,
    DisARM,
    LeaveOneOut,
    MovingAverage,
    Pathwise,
    ScoreFunction,
)
from tests.support.examples import PROGRAMS, Bits, Guess, local
from tests.support.training import assert_same_training, quiet


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_numbers_with_a_ragged_last_batch(name):
    assert_same_training(*PROGRAMS[name](), steps=9, batch_size=16)


@pytest.mark.gpu
@pytest.mark.parametrize("name", PROGRAMS)
def test_same_numbers_from_cuda_graphs(name):
    assert_same_training(*PROGRAMS[name](), steps=9, batch_size=16, device="cuda")


def test_same_numbers_under_a_warming_kl_and_clipping():
    run = assert_same_training(
        *local(), Pathwise(), steps=12, anneal=warm_up(0.5), clip_norm=0.3, batch_size=20
    )
    assert (run.trace["svi"]["grad_norm"] > 0.3).any()
    assert run.trace["svi"]["beta"].min() < 1


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize(
    "estimator",
    [ScoreFunction(baseline=MovingAverage()), LeaveOneOut(2), DisARM(), TraceGraph_ELBO()],
    ids=type,
)
def test_same_numbers_with_state_and_buffers(estimator):
    torch.manual_seed(0)
    run = assert_same_training(
        Bits(), Guess(), {"x": torch.randn(40)}, estimator, steps=6, batch_size=20
    )
    assert run.programs[0].guide.norm.running_mean.abs() > 0


@pytest.mark.usefixtures("_backend")
def test_subsampling_inside_the_program():
    x = torch.randn(30) + 2

    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 30, subsample_size=7) as index:
            pyro.sample("x", dist.Normal(w, 1.0), obs=x[index])

    def guide(x):
        loc = pyro.param("loc", lambda: torch.tensor(0.1))
        scale = pyro.param("scale", lambda: torch.tensor(0.5), dist.constraints.positive)
        pyro.sample("w", dist.Normal(loc, scale))

    assert_same_training(model, guide, {"x": x}, steps=8)


def small(draw_scale=lambda z: 1.0):
    """A program whose model does something of its own with the latent."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, draw_scale(z)), obs=x)

    def guide(x):
        loc = pyro.param("loc", lambda: torch.tensor(0.1))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1.0).expand([len(x)]))

    return model, guide, {"x": torch.randn(8)}


def branching(z):
    return 1.0 if z.sum() > 0 else 2.0  # here


def picking(z):
    return 1.0 + z[z > 0].exp().mean()  # here


@pytest.mark.parametrize("scale", [branching, picking])
def test_a_branch_on_a_drawn_value_is_refused_by_its_line(scale):
    with pytest.raises(UserError, match=r"test_captured.py line \d+, `.*# here`, needs the value"):
        quiet(*small(scale), compile=True, steps=2)


class Fickle:
    """Python's random numbers, NumPy's, a counter: each another scale at each call."""

    def __init__(self, kind):
        self.kind, self.calls = kind, 0

    def __call__(self, z):
        self.calls += 1
        kinds = {"python": random.random(), "numpy": np.random.rand(), "counter": self.calls}
        return 1.0 + kinds[self.kind]


@pytest.mark.parametrize("kind", ["python", "numpy", "counter"])
def test_what_torch_did_not_draw_is_found_out(kind):
    with pytest.raises(UserError, match="differ under the same noise"):
        quiet(*small(Fickle(kind)), compile=True, steps=2)


@contextlib.contextmanager
def unchanging():
    yield dict


def test_many_shapes_are_spoken_of_and_the_oldest_forgotten():
    captured = Captured(lambda c: [c["x"].sum()], ["sum"], unchanging, interpreted)
    for length in range(1, 8):
        captured({"x": torch.ones(length)})
    with pytest.warns(UserWarning, match="8 shapes"):
        captured({"x": torch.ones(8)})
    for length in range(9, 30):
        assert captured({"x": torch.ones(length)})[0] == length
    assert len(captured.ready) == 16


def wrong_at(output, draws):
    """A backend whose graphs are wrong in one output, at these of their runs."""

    def backend(graph, variables):
        run, count = interpreted(graph, variables), itertools.count()

        def sometimes(variables, noise):
            found = list(run(variables, noise))
            found[output] = found[output] * (1.1 if next(count) in draws else 1.0)
            return found

        return sometimes

    return backend


@pytest.mark.parametrize("output", [0, 1], ids=["loss", "gradient"])
@pytest.mark.parametrize("draws", [{0}, {0, 1}, {0, 1, 2, 3}, {0, 1, 2, 3, 4}], ids=len)
def test_gradients_may_jump_at_kinks_but_not_always(output, draws):
    """One wrong draw may be a threshold's; more may be kinks', unless none of five is right."""
    outputs, names = lambda c: [c["x"].sum(), 2 * c["x"]], ["loss", "gradient of 'x'"]
    captured = Captured(outputs, names, unchanging, wrong_at(output, draws))
    may_be = len(draws) < (5 if output else 2)
    with contextlib.nullcontext() if may_be else pytest.raises(UserError, match=names[output]):
        captured({"x": torch.ones(3, dtype=torch.float32)})


def test_in_double_precision_gradients_do_not_jump():
    outputs, names = lambda c: [c["x"].sum(), 2 * c["x"]], ["loss", "gradient of 'x'"]
    captured = Captured(outputs, names, unchanging, wrong_at(1, {0, 1}))
    with pytest.raises(UserError, match="gradient of 'x'"):
        captured({"x": torch.ones(3)})


@pytest.mark.parametrize("name", ["loss", "terms", "state.estimator.average", "gradient of 'x'"])
def test_a_loss_may_cancel_to_rounding(name):
    """A rest of 1e-5 nats of terms of many nats is rounding; a gradient so small is a gradient."""
    captured = Captured(lambda c: [c["x"].sum()], [name], unchanging, wrong_at(0, {*range(9)}))
    is_rounding = not name.startswith("gradient")
    with contextlib.nullcontext() if is_rounding else pytest.raises(UserError, match=name):
        captured({"x": torch.full((3,), 1e-5, dtype=torch.float32)})


def looked_up(how):
    """Words' numbers looked up in a table, sparsely and perhaps in another way."""
    table = pyro.nn.PyroModule[torch.nn.Embedding](5, 1, sparse=True)
    unused = pyro.nn.PyroModule[torch.nn.Linear](2, 2)

    def model(x):
        pyro.module("table", table)
        pyro.module("unused", unused)
        loc = how(table, (x > 0).long()).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    return model, lambda x: None, {"x": torch.randn(8)}


def test_a_parameter_without_a_gradient_is_captured():
    run = quiet(*looked_up(lambda table, w: table.weight[w]), Pathwise(), compile=True, steps=2)
    assert run.trace["svi"]["elbo"].notnull().all()


def test_a_table_read_in_two_ways_is_refused():
    model, guide, data = looked_up(lambda table, w: table(w) + table.weight[w])
    sgd = partial(torch.optim.SGD, lr=0.1)
    with pytest.raises(UserError, match=r"weight' has sparse gradients in a way that a graph"):
        quiet(model, guide, data, Pathwise(), sgd, compile=True, steps=2)


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("estimator", [TraceGraph_ELBO(), TraceMeanField_ELBO()], ids=type)
def test_pyros_own_estimators_are_captured(estimator):
    assert_same_training(*local(), estimator, steps=6, batch_size=20)


@pytest.mark.usefixtures("_backend")
def test_a_baseline_that_pyro_writes_anew_moves_as_ever():
    torch.manual_seed(0)
    data = {"x": torch.randn(40)}
    assert_same_training(Bits(), Guess(), data, DecayingAverage(num_particles=2), steps=6)


def test_half_precision_on_the_way():
    """Rounded to bfloat16 at the same places: equal to its 8 bits."""
    torch.manual_seed(0)
    model, guide, data = Bits(), Guess(), {"x": torch.randn(40)}
    runs = [
        fit(
            *copy.deepcopy((model, guide)),
            data,
            LeaveOneOut(2),
            steps=4,
            compile=c,
            precision="bf16-mixed",
            progress=False,
        )
        for c in (False, True)
    ]
    plain, captured = (run.trace["svi"]["elbo"].to_numpy() for run in runs)
    np.testing.assert_allclose(captured, plain, rtol=2**-8)


class TwoBiases(PyroModule):
    """y ~ N(vᵀ relu(a(x) + b(x)), 1): the gradients of both biases are one sum."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.v = nn.Linear(3, 64), nn.Linear(3, 64), nn.Linear(64, 1)

    def forward(self, x):
        with pyro.plate("data", 40, subsample=x):
            mean = self.v(torch.relu(self.a(x[:, :3]) + self.b(x[:, :3]))).squeeze(-1)
            pyro.sample("y", dist.Normal(mean, 1.0), obs=x[:, 3])


def test_equal_sums_in_half_precision_compile():
    torch.manual_seed(0)
    model, data = TwoBiases(), {"x": torch.randn(40, 4)}
    biases = []
    for c in (False, True):
        run = fit(
            copy.deepcopy(model),
            Empty(),
            data,
            Pathwise(),
            steps=3,
            compile=c,
            precision="bf16-mixed",
            progress=False,
        )
        biases.append((run.params["model.a.bias"] - model.a.bias).detach())
    torch.testing.assert_close(*biases, rtol=2**-6, atol=2**-6 * biases[0].abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_a_long_training_does_not_grow(compiled, monkeypatch):
    """Resident memory after 2,000 steps and after 30,000: what an hour would add is the trace."""
    model, guide, data = local()
    sizes = {}
    take = loop.take_step

    def weigh(training, batch):
        take(training, batch)
        if training.step in (2_000, 30_000):
            gc.collect()
            sizes[training.step] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    monkeypatch.setattr(loop, "take_step", weigh)
    quiet(model, guide, data, steps=30_000, batch_size=16, compile=compiled)
    assert sizes[30_000] - sizes[2_000] < 4  # MiB; the trace's 10,000 rows take 0.5


def almost_equal_branches():
    """log p hardly depends on b, so that leave-one-out's advantages are differences of rounding."""
    x = torch.randn(64, 300)

    def model(x):
        with pyro.plate("data", 64, subsample=x):
            b = pyro.sample("b", dist.Bernoulli(torch.tensor(0.5)))
            loc = (1e-6 * b[..., None]).expand(*b.shape, 300)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(x):
        weights = pyro.param("weights", torch.zeros(300))
        with pyro.plate("data", 64, subsample=x):
            pyro.sample("b", dist.Bernoulli(logits=(x * weights).sum(-1)))

    return model, guide, {"x": x}


def test_a_gradient_may_cancel_to_rounding():
    """As much as a change in the last digit of what the program reads changes it."""
    options = {"steps": 4, "compile": True, "precision": "float32", "progress": False}
    elbo = fit(*almost_equal_branches(), LeaveOneOut(2), **options).trace["svi"]["elbo"]
    plain = fit(*almost_equal_branches(), LeaveOneOut(2), **options | {"compile": False})
    torch.testing.assert_close(elbo.values, plain.trace["svi"]["elbo"].values, rtol=1e-2, atol=0)
