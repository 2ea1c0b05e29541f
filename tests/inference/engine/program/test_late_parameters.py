"""Parameters that a later batch brings: trained from there on as by Pyro's SVI, kept, resumed."""

import copy
import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn
from torch.distributions import constraints

from inference import UserError, fit
from inference.data.columns import epoch_order
from inference.engine.program.state import constraint_from, describe_constraint

ROWS = 8
KINDS = torch.arange(ROWS) % 4
DATA = {"kind": KINDS, "y": KINDS.double() - 1.5}
quiet = functools.partial(fit, data=DATA, batch_size=1, progress=False, precision="float64")


def model(kind, y):
    scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
    at = int(kind[0])
    loc = pyro.param(f"loc_{at}", torch.tensor(0.5), constraint=constraints.interval(-3.0, 3.0))
    with pyro.plate("data", ROWS, subsample=kind):
        pyro.sample("y", dist.Normal(loc, scale), obs=y)


def guide(kind, y):
    pass


def pyros(optimizer, steps):
    order = [rows for epoch in range(4) for rows in epoch_order(ROWS, 1, 0, epoch)]
    pyro.clear_param_store()
    svi = SVI(model, guide, optimizer, Trace_ELBO())
    for rows in order[:steps]:
        svi.step(KINDS[rows], DATA["y"][rows])
    values = {n: v.detach().clone() for n, v in pyro.get_param_store().items()}
    pyro.clear_param_store()
    return values


@pytest.mark.parametrize(
    "make",
    [
        lambda: pyro.optim.Adam({"lr": 0.02}),
        lambda: pyro.optim.SGD({"lr": 1e-3, "momentum": 0.9}),
        lambda: pyro.optim.ClippedAdam({"lr": 0.02, "lrd": 0.9, "clip_norm": 0.5}),
        lambda: pyro.optim.Adam({"lr": 0.02}, {"clip_norm": 1.0}),
    ],
)
def test_as_in_pyro(make):
    expected = pyros(make(), 20)
    run = quiet(model, guide, optimizer=make(), steps=20)
    assert len(expected) == 5
    assert run.params.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(run.params[name], value, rtol=1e-12), name


class StopError(Exception):
    pass


class Stopping(torch.optim.Adam):
    left = 0

    def step(self, closure=None):
        super().step(closure)
        Stopping.left -= len(self.param_groups[0]["params"]) > 1  # the first generation's
        if Stopping.left == 0:
            raise StopError


@pytest.mark.parametrize("stop", [2, 5, 13])
def test_resumed_it_is_bit_equal(tmp_path, stop):
    def train(name, left, resume=False):
        Stopping.left = left
        options = {"directory": tmp_path / name, "checkpoint_every": 0.0, "resume": resume}
        return quiet(model, guide, optimizer=Stopping, steps=20, **options)

    whole = train("whole", -1)
    with pytest.raises(StopError):
        train("stopped", stop)
    resumed = train("stopped", -1, resume=True)
    assert resumed.params.keys() == whole.params.keys()
    assert all(torch.equal(resumed.params[n], p) for n, p in whole.params.items())
    assert resumed.trace["svi"]["elbo"].equals(whole.trace["svi"]["elbo"])


def test_every_seed_has_its_own():
    both, one = quiet(model, guide, steps=12, seeds=2), quiet(model, guide, steps=12, seeds=[1])
    for name, value in both.programs[1].values().items():
        assert torch.equal(value, one.params[name])


def test_born_in_a_held_out_evaluation():
    early = {"kind": KINDS * 0, "y": DATA["y"]}
    run = fit(
        model,
        guide,
        early,
        batch_size=1,
        progress=False,
        epochs=2,
        valid={"kind": KINDS * 0 + 3, "y": DATA["y"]},
        precision="float64",
    )
    assert float(run.params["loc_3"]) == pytest.approx(0.5)  # no step has used it


def test_the_best_state_is_of_the_parameters_of_its_time():
    """Restoring an evaluation from before a parameter appeared removes the parameter."""
    steep = functools.partial(torch.optim.SGD, lr=1.0)
    run = quiet(model, guide, optimizer=steep, epochs=4, valid=DATA, patience=1)
    with run.programs[0].scope():
        assert set(run.params) == set(pyro.get_param_store())


def by_length(x):
    """Its parameter depends on the shape alone, so that it can be captured."""
    loc = pyro.param(f"loc_{x.shape[0]}", torch.tensor(0.0))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def test_compile_refuses_it_by_name():
    columns = {"x": torch.ones(ROWS)}
    with pytest.raises(
        UserError, match="parameter 'loc_2' appears after the first batch, which compile"
    ):
        fit(
            by_length, lambda x: None, columns, batch_size=3, epochs=1, compile=True, progress=False
        )


@pytest.mark.parametrize(
    "constraint",
    [
        constraints.real,
        constraints.positive,
        constraints.interval(-1.0, torch.tensor(2.0)),
        constraints.simplex,
        constraints.lower_cholesky,
        constraints.independent(constraints.positive, 1),
        pyro.distributions.constraints.ordered_vector,
        pyro.distributions.constraints.softplus_positive,
    ],
)
def test_a_constraint_is_kept_in_plain_types(constraint):
    again = constraint_from(copy.deepcopy(describe_constraint(constraint)))
    assert type(again) is type(constraint)
    assert repr(again) == repr(constraint)


class Growing(nn.Module):
    """Makes a parameter for each kind of row when it comes; ``registers`` all of them, or not."""

    def __init__(self, registers):
        super().__init__()
        self.shift, self.registers = nn.Parameter(torch.tensor(0.3)), registers

    def forward(self, kind, y):
        if not hasattr(self, name := f"loc_{int(kind[0])}"):
            setattr(self, name, nn.Parameter(torch.zeros(())))
        if self.registers:
            pyro.module("growing", self)
        with pyro.plate("data", len(DATA["kind"]), subsample=kind):
            pyro.sample("y", dist.Normal(getattr(self, name) + self.shift, 1.0), obs=y)


def test_a_module_that_registers_its_late_parameters_is_pyros():
    sgd = pyro.optim.SGD({"lr": 1e-2})
    ours, theirs = Growing(registers=True), Growing(registers=True)
    quiet(ours, guide, optimizer=sgd, steps=20)
    order = [rows for epoch in range(4) for rows in epoch_order(ROWS, 1, 0, epoch)]
    svi = SVI(theirs, guide, pyro.optim.SGD({"lr": 1e-2}), Trace_ELBO())
    for rows in order[:20]:
        svi.step(KINDS[rows], DATA["y"][rows])
    expected = dict(theirs.named_parameters())
    assert len(expected) == 5
    for name, value in ours.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


def test_a_module_that_does_not_is_refused():
    with pytest.raises(
        UserError, match=r"'model.loc_\d' appears after the first batch, and is not"
    ):
        quiet(Growing(registers=False), guide, steps=20)
