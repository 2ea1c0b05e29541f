"""Captured is uncaptured, or a sentence: programs that a careless capture would get wrong."""

import random

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn
from torch.utils.checkpoint import checkpoint

from inference import UserError, fit
from inference.data.columns import Columns
from inference.engine.capture.backends import interpreted
from inference.engine.capture.captured import Captured
from inference.engine.capture.graph import capture
from inference.engine.capture.noise import NoiseRecorder
from inference.estimators import ScoreFunction
from tests.support.training import assert_same_training, quiet

SIZE = 24


def program(shift, scale=None):
    """x_n ~ N(z_n + shift, scale), z_n ~ N(0, 1), with q(z_n) = N(l, 1)."""

    def model(x, n=None):
        with pyro.plate("data", SIZE, subsample=x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([len(x)]))
            pyro.sample("x", dist.Normal(z + shift(z, x, n), 1.0), obs=x)

    def guide(x, n=None):
        loc = pyro.param("l", lambda: torch.tensor(0.1))
        with pyro.plate("data", SIZE, subsample=x):
            pyro.sample("z", dist.Normal(loc, 1.0).expand([len(x)]))

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    return model, guide, {"x": x, "n": torch.arange(SIZE)}


def by_list(z, x, n):
    return torch.tensor([0.5 * k for k in n.tolist()])


def by_numpy(z, x, n):
    return torch.as_tensor(0.5 * n.numpy())


def by_tensor_equality(z, x, n):
    return 1.0 if torch.equal(z, x) else 0.5


@pytest.mark.parametrize("shift", [by_list, by_numpy, by_tensor_equality])
def test_values_read_behind_torchs_back_are_refused_by_their_line(shift):
    with pytest.raises(UserError, match=r"test_promise.py line \d+, `return .*needs the value"):
        quiet(*program(shift), steps=2, batch_size=8, compile=True)


def seeded(z, x, n):
    torch.manual_seed(3)
    return torch.randn(len(x))


def recomputed(z, x, n):
    w = pyro.param("w", lambda: torch.ones(SIZE))
    return checkpoint(lambda v: nn.functional.dropout(v, 0.5), w, use_reentrant=False).sum()


class Rarely:
    """Another shift at one call in ten, by Python's random numbers."""

    def __call__(self, z, x, n):
        return float(random.random() < 0.1)


class Drifting:
    """An attribute that moves by less than the check's tolerance at each call."""

    def __init__(self):
        self.t = 0

    def __call__(self, z, x, n):
        self.t += 1
        return float(np.exp(-2e-5 * self.t))


@pytest.mark.parametrize("shift", [seeded, recomputed, Rarely(), Drifting()], ids=type)
def test_what_the_graph_would_freeze_is_found_out(shift):
    with pytest.raises(UserError, match="differ under the same noise"):
        quiet(*program(shift), steps=300, batch_size=SIZE, compile=True, precision="float32")


class Replacing(torch.optim.Optimizer):
    """Gives a parameter new memory instead of changing it in place."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.05})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data = p.data - group["lr"] * p.grad


def test_an_optimiser_that_gives_parameters_new_memory_is_found_out():
    with pytest.raises(UserError, match="differ under the same noise"):
        quiet(*program(lambda z, x, n: 0.0), optimizer=Replacing, steps=9, compile=True)


def noncontiguous(z, x, n):
    return torch.empty(2, len(x)).t().normal_()[:, 0]


def broadcast(z, x, n):
    return torch.normal(torch.zeros(len(x)), torch.tensor(1.0)) + torch.normal(z.detach(), 0.3)


def by_rejection(z, x, n):
    return torch._standard_gamma(torch.full((len(x),), 2.0))


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("shift", [noncontiguous, broadcast])
def test_same_draws_whatever_the_shape(shift):
    assert_same_training(*program(shift), steps=5, batch_size=8)


def test_rejection_samplers_are_drawn_anew_each_step():
    run = quiet(*program(by_rejection), steps=6, compile=True)
    assert len(set(run.trace["svi"]["elbo"].to_numpy()[0])) == 6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_bernoulli_draws_are_torchs_in_any_precision(dtype):
    p = torch.full((40_000,), 0.001, dtype=dtype)
    torch.manual_seed(0)
    wanted = torch.bernoulli(p)
    torch.manual_seed(0)
    with NoiseRecorder():
        assert torch.equal(torch.bernoulli(p), wanted)


class Shared(PyroModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with pyro.plate("data", SIZE, subsample=x):
            pyro.sample("z", dist.Normal(self.net(x[:, None])[:, 0], 1.0))


class Clamped(Shared):
    def __init__(self, net):
        super().__init__(net)
        self.b = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        h = self.net(x[:, None])[:, 0].clamp_(max=2.5)  # at first, nothing is
        with pyro.plate("data", SIZE, subsample=x):
            z = pyro.sample("z", dist.Normal(h + self.b, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.usefixtures("_backend")
def test_what_is_shared_is_not_changed_for_both():
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, 0.5)
    data = {"x": torch.linspace(-3, 3, SIZE)}
    sgd = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1)}
    assert_same_training(Clamped(net), Shared(net), data, steps=60, **sgd)


class Turning:
    """Square images, every second batch seen from the side (other strides) or as its own double."""

    def __init__(self, double):
        self.calls, self.double = 0, double

    def __call__(self, batch):
        self.calls += 1
        x = batch["x"]
        if self.double:
            return {"x": x, "y": x if self.calls % 2 else x + 1}
        turned = x.transpose(1, 2) if self.calls % 2 else x
        return {"x": turned, "y": torch.zeros_like(turned)}

    def __deepcopy__(self, memo):
        return Turning(self.double)


def images(x, y):
    with pyro.plate("data", SIZE, subsample=x):
        z = pyro.sample("z", dist.Normal(torch.zeros(5, 5), 1.0).to_event(2))
        weight = torch.arange(25.0).view(5, 5)
        pyro.sample("x", dist.Normal(z * weight + y, 1.0).to_event(2), obs=x)


def imagining(x, y):
    weight = pyro.param("w", lambda: torch.zeros(5, 5))
    with pyro.plate("data", SIZE, subsample=x):
        pyro.sample("z", dist.Normal(x * weight, 1.0).to_event(2))


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("double", [False, True])
def test_strides_and_doubles_are_other_graphs(double):
    pixels = torch.randn(SIZE, 5, 5)
    runs = []
    for compiled in (False, True):
        turning = Turning(double)
        turning({"x": pixels})  # the look at the data that comes before the first step
        columns = Columns({"x": pixels, "y": pixels}, turning)
        run = quiet(images, imagining, columns, steps=9, batch_size=8, compile=compiled)
        runs.append(run.trace["svi"]["elbo"].to_numpy())
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-9)


class Listening(Shared):
    """A guide with a recurrent network, dropout and a mask of bits as a buffer."""

    def __init__(self):
        super().__init__(nn.LSTM(1, 4, batch_first=True))
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(4, 1)
        self.register_buffer("mask", torch.tensor([True, False, True, True]))

    def forward(self, x):
        h = self.net(x[:, None, None])[0][:, -1]
        loc = self.head(self.drop(h) * self.mask)[:, 0]
        with pyro.plate("data", SIZE, subsample=x):
            pyro.sample("z", dist.Normal(loc, 1.0))


PRIOR = dist.Normal(0.0, 1.0, validate_args=True).expand([SIZE])


def outside(x):
    with pyro.plate("data", SIZE, subsample=x):
        z = pyro.sample("z", PRIOR)
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_recurrent_networks_masks_and_priors_made_outside():
    torch.manual_seed(0)
    assert_same_training(outside, Listening(), {"x": torch.randn(SIZE)}, steps=4)


@pytest.mark.usefixtures("_backend")
def test_eval_half_way_is_another_graph(monkeypatch):
    from inference.engine.training import loop

    take = loop.take_step

    def turning(training, batch):
        training.seeds[0].program.guide.train(training.step < 3)
        take(training, batch)

    monkeypatch.setattr(loop, "take_step", turning)
    torch.manual_seed(0)
    assert_same_training(outside, Listening(), {"x": torch.randn(SIZE)}, steps=6)


def test_an_infinite_loss_names_its_site_as_ever():
    def huge(z, x, n):
        return 1e200 * pyro.param("w", lambda: torch.tensor(1e200))

    with pytest.raises(UserError, match="site 'x'"):
        quiet(*program(huge), steps=2, compile=True)


def test_python_state_is_as_before_after_a_refusal():
    validating = torch.distributions.Distribution._validate_args
    mkldnn = torch._C._get_mkldnn_enabled()
    with pytest.raises(UserError):
        fit(*program(by_list), steps=2, compile=True, progress=False)
    assert torch.distributions.Distribution._validate_args == validating
    assert torch._C._get_mkldnn_enabled() == mkldnn
    assert pyro.util.torch_isnan(torch.tensor(float("nan")))


def test_the_same_tensor_twice_in_a_graph():
    x = torch.randn(3)
    graph = capture(lambda: [x + 2 * x], [x])
    assert torch.equal(interpreted(graph, [x])([x + 1], [])[0], 3 * (x + 1))


def test_a_guide_that_computes_the_prior_itself_shares_the_models_network(monkeypatch):
    """One run of the network in place of two; shared log-probabilities do not make it ``Prior``."""
    shares, real = [], Captured.graph

    def seen(self, inputs, share):
        shares.append(share)
        return real(self, inputs, share)

    monkeypatch.setattr(Captured, "graph", seen)
    net = PyroModule[nn.Linear](1, 1)

    def guide(x):
        pyro.module("net", net)
        with pyro.plate("data", SIZE, subsample=x):
            return pyro.sample("z", dist.Bernoulli(logits=net(x[:, None])[:, 0]))

    def model(x):
        z = guide(x)
        with pyro.plate("likelihood", SIZE, subsample=x):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    data = {"x": torch.randn(SIZE)}
    quiet(model, guide, data, ScoreFunction(), steps=1, compile=True)
    assert shares == [True, True]
