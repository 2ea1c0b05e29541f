"""The data's plate is the one that follows the batch, whatever else is as long by chance."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from inference import UserError, fit
from inference.data.columns import Columns
from inference.engine.program.program import Program
from inference.util import rng

ROWS = 21


def chance(parts, scaled=True):
    """A mixture whose components are as many as a batch has rows."""

    def model(x):
        with pyro.plate("components", parts):
            loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        size = ROWS if scaled else len(x)
        with pyro.plate("rows", size, subsample=x):
            pyro.sample("x", dist.Normal(loc.mean(), 1.0), obs=x)

    return model


def fixed(x):
    """Sizes are written down: it runs on 7 rows only."""
    with pyro.plate("components", 7, dim=-2):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", 7):
        pyro.sample("x", dist.Normal(loc.mean(), torch.ones(7)), obs=x)


def square(x):
    """(rows, 7) in two plates of the same length, sizes written down."""
    with pyro.plate("features", 7, dim=-1):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 7, dim=-2):
            pyro.sample("x", dist.Normal(w, torch.ones(7, 7)), obs=x)


def without(x):
    """No plate over the data at all."""
    with pyro.plate("components", 7):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(loc.mean().expand(len(x)), 1.0).to_event(1), obs=x)


def initialised(model, x, rows):
    program = Program(model, AutoNormal(model))
    with rng.forked(0), program.scope():
        program.initialise({"x": x}, rows)
    return program


@pytest.mark.parametrize(
    ("model", "length", "rows", "plate", "size"),
    [
        (chance(7), 7, ROWS, "rows", ROWS),
        (chance(5), 7, ROWS, "rows", ROWS),
        (chance(ROWS), ROWS, ROWS, "rows", ROWS),
        (chance(ROWS, scaled=False), ROWS, ROWS, "rows", ROWS),
        (fixed, 7, 7, "rows", 7),
        (without, 7, 7, None, None),
    ],
)
def test_found_by_what_it_follows(model, length, rows, plate, size):
    program = initialised(model, torch.randn(length), rows)
    assert (program.plate, program.plate_size) == (plate, size)


def test_of_two_as_long_the_one_that_a_columns_rows_stand_in():
    assert initialised(square, torch.randn(7, 7), 7).plate == "rows"


def test_a_plate_as_long_by_chance_is_not_enough():
    with pytest.raises(UserError, match="no plate runs over the batch's 7 rows"):
        initialised(without, torch.randn(7), ROWS)


def test_an_unscaled_plate_beside_a_chance_one_is_refused_with_its_own_name():
    with pytest.raises(UserError, match="outside plate 'rows', which is only as long"):
        initialised(chance(7, scaled=False), torch.randn(7), ROWS)


def test_a_size_that_is_neither():
    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 40, subsample=x):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    with pytest.raises(UserError, match="has size 40, but the data have 21 rows"):
        initialised(model, torch.randn(7), ROWS)


def test_looking_consumes_no_randomness_and_leaves_no_parameter():
    met = []

    def model(x):
        met.append(len(x))
        w = pyro.param(f"w_{len(x)}", torch.tensor(0.5))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    program = Program(model, lambda x: None)
    torch.manual_seed(3)
    expected = torch.randn(3)
    torch.manual_seed(3)
    with program.scope():
        program.initialise({"x": torch.ones(7)}, 7)
        assert list(pyro.get_param_store()) == ["w_7"]
    assert set(met) == {2, 7, 8}
    assert torch.equal(torch.randn(3), expected)
    assert program.plate == "rows"


def test_held_out_bounds_of_a_chance_plate_are_scaled_by_the_datas():
    """The bound per datum on 7 of 21 rows is about that of all."""
    data = {"x": torch.randn(ROWS)}
    quiet = functools.partial(fit, progress=False, steps=3, precision="float64")
    model = chance(7)
    still = functools.partial(torch.optim.SGD, lr=0.0)
    run = quiet(model, AutoNormal(model), data, optimizer=still, batch_size=7, valid=Columns(data))
    bound, error = (float(run.trace["held_out"][n][0, 0]) for n in ("elbo", "elbo_error"))
    full = quiet(model, AutoNormal(model), data, optimizer=still, valid=Columns(data))
    assert abs(bound - float(full.trace["held_out"]["elbo"][0, 0])) < 5 * error + 0.5
