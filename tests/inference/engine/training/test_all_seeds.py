"""fit(seeds_at_once=True): every seed's numbers are those that it has by itself."""

import copy
import re
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from inference import UserError, fit
from inference.data.columns import Columns
from inference.engine.training.loop import together
from inference.engine.training.schedules import warm_up
from inference.estimators import DisARM, LeaveOneOut, MovingAverage, ScoreFunction
from tests.support.examples import Bits, Guess, global_only, local
from tests.support.training import assert_same_runs, interrupted

quiet = partial(fit, progress=False, precision="float64", seeds=[0, 3, 5])
at_once = partial(quiet, compile=True, seeds_at_once=True)


def assert_same_seeds(program, data, estimator=None, **options):
    """Trained at once and in turn, uncompiled: the same traces, the same parameters."""
    one, two = (copy.deepcopy((program, estimator)) for _ in range(2))
    together = at_once(*one[0], data, one[1], **options)
    in_turn = quiet(*two[0], data, two[1], **options)
    for group in in_turn.trace.children:
        mine, theirs = (r.trace[group].to_dataset() for r in (together, in_turn))
        assert mine.sizes == theirs.sizes
        for name in set(theirs) - {"seconds"}:
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-9, atol=1e-9, err_msg=name)
    for mine, theirs in zip(together.programs, in_turn.programs, strict=True):
        with mine.scope(), theirs.scope():
            a, b = mine.state_dict(), theirs.state_dict()
        assert a.keys() == b.keys()
        for kind in a:
            for name, value in b[kind].items():
                torch.testing.assert_close(a[kind][name], value, rtol=1e-9, atol=1e-9)
    return together


class Decoder(PyroModule):
    """z_n ~ N(0, I), x_n ~ N(W z_n + b, 1)."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 3)

    def forward(self, x):
        with pyro.plate("data", 40, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)


class Encoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4))

    def forward(self, x):
        loc, raw = self.net(x).chunk(2, -1)
        with pyro.plate("data", 40, subsample=x):
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


def vae():
    torch.manual_seed(1)
    return (Decoder(), Encoder()), {"x": torch.randn(40, 3)}


@pytest.mark.slow
def test_a_vae_with_warming_kl_clipping_and_a_ragged_last_batch():
    program, data = vae()
    optimizer = partial(torch.optim.Adam, lr=1e-2, fused=True)
    options = {"batch_size": 16, "anneal": warm_up(0.5), "clip_norm": 0.3, "schedule": warm_up(0.7)}
    run = assert_same_seeds(program, data, optimizer=optimizer, steps=14, **options)
    elbo = run.trace["svi"]["elbo"].to_numpy()
    assert len(np.unique(elbo)) == elbo.size  # other initial values, order and noise in each
    assert (run.trace["svi"]["grad_norm"] > 0.3).any()
    weights = [p.model.net.weight for p in run.programs]
    assert all(w.untyped_storage().nbytes() == w.nbytes for w in weights)


@pytest.mark.usefixtures("_backend")
def test_functions_with_pyro_param_on_the_whole_data():
    model, guide, data = global_only()
    assert_same_seeds((model, guide), data, steps=12)


ESTIMATORS = [
    ScoreFunction(baseline=MovingAverage()),
    *(pytest.param(e, marks=pytest.mark.slow) for e in (LeaveOneOut(2), DisARM())),
]


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_bits_with_state_and_buffers(estimator):
    torch.manual_seed(0)
    data = {"x": torch.randn(40)}
    run = assert_same_seeds((Bits(), Guess()), data, estimator, steps=12, batch_size=20)
    means = {p.guide.norm.running_mean.item() for p in run.programs}
    assert len(means) == 3
    assert 0 not in means


@pytest.mark.usefixtures("_backend")
def test_seeds_stop_at_different_times_and_keep_their_best():
    program, data = vae()
    options = {"valid": {"x": torch.randn(64, 3)}, "patience": 2, "epochs": 300}
    optimizer = partial(torch.optim.Adam, lr=0.05)
    run = assert_same_seeds(program, data, optimizer=optimizer, **options)
    taken = run.trace["svi"]["elbo"].notnull().sum("step").to_numpy()
    assert len(set(taken)) > 1
    assert taken.max() < 300


def noisy(batch):
    return {"x": batch["x"] + torch.randn_like(batch["x"])}


@pytest.mark.usefixtures("_backend")
def test_a_transform_draws_from_each_seed_s_randomness():
    model, guide, data = local()
    assert_same_seeds((model, guide), Columns(data, noisy), steps=4, batch_size=20)


@pytest.mark.slow
def test_an_interrupted_run_resumes_bit_for_bit_with_one_seed_done(tmp_path, monkeypatch):
    torch.manual_seed(0)
    fixed = {
        "data": {"x": torch.randn(40)},
        "valid": {"x": torch.randn(16)},
        "estimator": ScoreFunction(baseline=MovingAverage()),
        "epochs": 60,
        "batch_size": 20,
        "patience": 3,
        **at_once.keywords,
    }
    programs = [{"model": Bits(), "guide": Guess()}]
    programs += [copy.deepcopy(programs[0]) for _ in range(2)]
    whole = fit(directory=tmp_path / "whole", **programs[0], **fixed)
    taken = whole.trace["svi"]["elbo"].notnull().sum("step").to_numpy()
    assert taken.min() + 3 < taken.max()
    cut = {"directory": tmp_path / "cut", **fixed}
    interrupted(taken.min() + 3, monkeypatch, **cut, **programs[1])
    again = fit(resume=True, **cut, **programs[2])
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")
    for mine, theirs in zip(again.programs, whole.programs, strict=True):
        assert all(torch.equal(mine.values()[n], v) for n, v in theirs.values().items())


def exploding(batch):
    """Once in a while, numbers whose squares overflow."""
    factor = torch.where(torch.rand(()) < 0.1, 1e200, 1.0)
    return {"x": batch["x"] * factor}


@pytest.mark.usefixtures("_backend")
def test_a_nan_is_reported_with_its_seed():
    model, guide, data = local()
    steps = {}
    for seed in (2, 5, 6):
        program = copy.deepcopy((model, guide))
        with pytest.raises(UserError, match="not finite at step") as found:
            quiet(*program, Columns(data, exploding), steps=99, seeds=[seed], batch_size=20)
        steps[seed] = int(re.search(r"at step (\d+)", str(found.value))[1])
    first = min(steps, key=steps.get)
    assert first != 2
    assert list(steps.values()).count(steps[first]) == 1
    complaint = rf"seed {first}: .* at step {steps[first]}: the log-probability of site 'z'"
    with pytest.raises(UserError, match=complaint):
        at_once(model, guide, Columns(data, exploding), steps=99, seeds=[2, 5, 6], batch_size=20)


def test_what_cannot_be_is_refused():
    model, guide, data = local()
    with pytest.raises(UserError, match="give compile, too"):
        quiet(model, guide, data, steps=2, seeds_at_once=True)

    def gamma_model(x):
        z = pyro.sample("z", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def gamma_guide(x):
        rate = pyro.param("rate", lambda: torch.tensor(1.0), dist.constraints.positive)
        pyro.sample("z", dist.Gamma(rate, 1.0))

    with pytest.raises(UserError, match="draws within a step by rejection"):
        at_once(gamma_model, gamma_guide, data, steps=2)
    with pytest.raises(UserError, match="another shape in each seed's batch"):
        together([{"x": torch.zeros(2)}, {"x": torch.zeros(3)}])
