"""fit(seeds_at_once=True): every seed's numbers are those that it has by itself."""

import copy
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
from inference.estimators import DisARM, LeaveOneOut, MovingAverage, ScoreFunction
from inference.schedules import warm_up
from tests.examples import global_only, local
from tests.inference.capture.test_fit import Bits, Guess
from tests.inference.test_resume import check, interrupted

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


def test_a_vae_with_warming_kl_clipping_and_a_ragged_last_batch():
    program, data = vae()
    options = {"batch_size": 16, "anneal": warm_up(0.5), "clip_norm": 0.3, "schedule": warm_up(0.7)}
    run = assert_same_seeds(program, data, steps=14, **options)
    elbo = run.trace["svi"]["elbo"].to_numpy()
    assert len(np.unique(elbo)) == elbo.size  # other initial values, order and noise in each
    assert (run.trace["svi"]["grad_norm"] > 0.3).any()
    weights = [p.model.net.weight for p in run.programs]
    assert all(w.untyped_storage().nbytes() == w.nbytes for w in weights)


def test_functions_with_pyro_param_on_the_whole_data():
    model, guide, data = global_only()
    assert_same_seeds((model, guide), data, steps=12)


ESTIMATORS = [ScoreFunction(baseline=MovingAverage()), LeaveOneOut(2), DisARM()]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_bits_with_state_and_buffers(estimator):
    torch.manual_seed(0)
    data = {"x": torch.randn(40)}
    run = assert_same_seeds((Bits(), Guess()), data, estimator, steps=12, batch_size=20)
    means = {p.guide.norm.running_mean.item() for p in run.programs}
    assert len(means) == 3
    assert 0 not in means
