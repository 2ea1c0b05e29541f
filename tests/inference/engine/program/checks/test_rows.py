"""A guide's latents of each row belong to the batch's rows, or the guide is refused."""

import copy
import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoMultivariateNormal,
    AutoNormal,
)
from pyro.nn import PyroModule, PyroParam
from torch import nn

from inference import UserError, audit, fit
from inference.data.columns import epoch_order
from inference.estimators import Pathwise

ROWS = 20
quiet = functools.partial(fit, progress=False, precision="float64", steps=2)


def data():
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(ROWS, generator=generator, dtype=torch.float64),
        "i": torch.arange(ROWS),
    }


def model(x, i):
    with pyro.plate("data", ROWS, subsample=i):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def model_of_x(x):
    with pyro.plate("data", ROWS, subsample=x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def rows_of(x, i):
    return pyro.plate("data", ROWS, subsample=i, dim=-1)


def parts():
    guide = AutoGuideList(model_of_x)
    guide.append(AutoNormal(model_of_x))
    return guide


def places(x):
    """A parameter for each place in a batch."""
    loc = pyro.param("loc", lambda: torch.zeros(len(x)))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("z", dist.Normal(loc, 1.0))


def point_places(x):
    loc = pyro.param("loc", lambda: torch.zeros(len(x)))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("z", dist.Delta(loc))


def draws_its_rows(x):
    loc = pyro.param("loc", torch.zeros(ROWS))
    with pyro.plate("data", ROWS, subsample_size=len(x)) as own:
        pyro.sample("z", dist.Normal(loc[own], 1.0))


def of_all_rows(x):
    loc = pyro.param("loc", torch.zeros(ROWS))
    with pyro.plate("data", ROWS):
        pyro.sample("z", dist.Normal(loc, 1.0))


def first_of_all_rows(x):
    """Sized for all the data, the batch takes the first of them."""
    loc = pyro.param("loc", torch.zeros(ROWS))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("z", dist.Normal(loc[: len(x)], 1.0))


def unscaled(x):
    loc = pyro.param("loc", torch.zeros(()))
    with pyro.plate("rows", len(x)):
        pyro.sample("z", dist.Normal(loc * x, 1.0))


REFUSED = {
    "AutoNormal": (lambda: AutoNormal(model_of_x), "plate 'data' of the guide draws 5 of 20"),
    "AutoDelta": (lambda: AutoDelta(model_of_x), "plate 'data' of the guide draws 5 of 20"),
    "AutoGuideList": (parts, "plate 'data' of the guide draws 5 of 20"),
    "places": (lambda: places, "parameter 'loc' of the guide belongs to positions"),
    "point_places": (lambda: point_places, "parameter 'loc' of the guide belongs to positions"),
    "first_of_all_rows": (lambda: first_of_all_rows, "parameter 'loc' .* belongs to positions"),
    "draws_its_rows": (lambda: draws_its_rows, "plate 'data' of the guide draws 5 of 20"),
    "of_all_rows": (
        lambda: of_all_rows,
        "'data' has 5 rows in the model and 20 in the guide",
    ),
    "unscaled": (lambda: unscaled, "5 of 20 rows in the model and for 5 of 5 rows in the guide"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_minibatches_by_fit_and_audit(name):
    make, sentence = REFUSED[name]
    with pytest.raises(UserError, match=sentence):
        quiet(model_of_x, make(), {"x": data()["x"]}, batch_size=5)
    with pytest.raises(UserError, match=sentence):
        audit(model_of_x, make(), {"x": data()["x"]}, [Pathwise()], batch_size=5, samples=3)


@pytest.mark.parametrize("name", ["AutoNormal", "AutoDelta", "AutoGuideList", "places"])
def test_whole_batches_are_as_in_pyro(name):
    """All rows at once are always the same rows."""
    guide = REFUSED[name][0]()
    theirs = REFUSED[name][0]()
    columns = {"x": data()["x"]}
    run = quiet(
        model_of_x, guide, columns, optimizer=functools.partial(torch.optim.SGD, lr=1e-3 * ROWS)
    )
    pyro.clear_param_store()
    svi = SVI(model_of_x, theirs, pyro.optim.SGD({"lr": 1e-3}), Trace_ELBO())
    pyro.set_rng_seed(0)
    theirs(**columns)  # parameters first, as fit does
    pyro.set_rng_seed(0)
    for _ in range(2):
        svi.step(**columns)
    store = {n: p.detach() for n, p in pyro.get_param_store().items()}
    pyro.clear_param_store()
    if isinstance(guide, nn.Module):
        pairs = zip(guide.parameters(), theirs.parameters(), strict=True)
    else:
        pairs = ((run.params[n], p) for n, p in store.items())
    for a, b in pairs:
        assert torch.allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta])
def test_the_remedy_works_and_is_pyros(kind):
    """create_plates with a column of row numbers: five steps of SGD, as by hand."""
    columns = data()
    rate = 1e-3
    mine, theirs = (kind(model, create_plates=rows_of) for _ in range(2))
    sgd = functools.partial(torch.optim.SGD, lr=rate * ROWS)
    quiet(model, mine, columns, optimizer=sgd, batch_size=5, steps=5)
    order = [o for epoch in range(2) for o in epoch_order(ROWS, 5, 0, epoch)]
    batches = [{name: column[rows] for name, column in columns.items()} for rows in order]
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    theirs(**batches[0])
    pyro.set_rng_seed(0)
    svi = SVI(model, theirs, pyro.optim.SGD({"lr": rate}), Trace_ELBO())
    for batch in batches[:5]:
        svi.step(**batch)
    pyro.clear_param_store()
    for (n, a), b in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        assert len(a) == ROWS, n
        assert torch.allclose(a, b, rtol=1e-12), n


class Indexed(PyroModule):
    def __init__(self):
        super().__init__()
        self.loc = PyroParam(torch.zeros(ROWS))

    def forward(self, x, i):
        with pyro.plate("data", ROWS, subsample=i):
            pyro.sample("z", dist.Normal(self.loc[i], 1.0))


class Amortised(PyroModule):
    def __init__(self):
        super().__init__()
        layers = (nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1))
        self.net = nn.Sequential(*layers)

    def forward(self, x, i):
        with pyro.plate("data", ROWS, subsample=i):
            pyro.sample("z", dist.Normal(self.net(x[:, None])[:, 0], 1.0))


def shared(x, i):
    loc, scale = pyro.param("loc", torch.zeros(())), pyro.param("scale", torch.ones(()))
    with pyro.plate("data", ROWS, subsample=i):
        pyro.sample("z", dist.Normal(loc, scale.abs()))


def noisy(x, i):
    """Draws beside its sites: it cannot be asked."""
    loc = pyro.param("loc", torch.ones(()))
    with pyro.plate("data", ROWS, subsample=i):
        pyro.sample("z", dist.Normal(loc * torch.randn(len(x)), 1.0))


@pytest.mark.parametrize("guide", [Indexed(), Amortised(), shared, noisy])
def test_guides_of_their_rows_train(guide):
    assert quiet(model, copy.deepcopy(guide), data(), batch_size=5).params


def test_global_latents_are_nobodys_rows():
    def model_of_w(x):
        with pyro.plate("parts", 5):  # as many as a batch has rows
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", ROWS, subsample=x):
            pyro.sample("x", dist.Normal(w.sum(), 1.0), obs=x)

    for kind in (AutoNormal, AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal):
        assert quiet(model_of_w, kind(model_of_w), {"x": data()["x"]}, batch_size=5).params


def test_a_model_that_subsamples_itself_shares_its_rows_with_the_guide():
    """Pyro's tutorials: plate(size, subsample_size) over data that come whole."""

    def own(x):
        with pyro.plate("data", ROWS, subsample_size=5) as rows:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])

    assert quiet(own, AutoNormal(own), {"x": data()["x"]}).params
    assert quiet(own, lambda x: draws_its_rows(x[:5]), {"x": data()["x"]}).params
