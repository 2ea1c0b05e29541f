"""A slip in fit's arguments is a sentence that names the argument and what to give instead."""

import functools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import ReweightedWakeSleep, Trace_ELBO, TraceTailAdaptive_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from inference import UserError, fit
from inference.estimators import LeaveOneOut

ROWS = 12
X = torch.linspace(-1, 1, ROWS)


def model(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("x", dist.Normal(w, 1.0), obs=x)


class Coloured(PyroModule):
    def __init__(self):
        super().__init__()
        self.mixing = torch.ones(1, 2)  # no buffer

    def forward(self, x):
        with pyro.plate("data", ROWS, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal((z @ self.mixing.T)[:, 0], 1.0), obs=x)


def of_coloured(x):
    loc = pyro.param("loc", torch.zeros(2))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


def own_rows(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", ROWS, subsample_size=4) as i:
        pyro.sample("x", dist.Normal(w, 1.0), obs=x[i])


def of_own_rows(x):
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def clicks(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("y", dist.Bernoulli(logits=w * x), obs=y)


PRIOR = dist.Normal(torch.zeros(1, dtype=torch.float32), 1.0).to_event(1)


def of_single_precision(x):
    w = pyro.sample("w", PRIOR)
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("x", dist.Normal(x[:, None] @ w, 1.0), obs=x)


def column_of_columns(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("x", dist.Normal(w, 1.0), obs=x[:, None])


def twice(x):
    for _ in range(2):
        pyro.sample("w", dist.Normal(0.0, 1.0))


def inverted(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("x", dist.Normal(w, -1.0), obs=x)


def classes(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("y", dist.Categorical(logits=w.expand(len(x), 3)), obs=y)


def embedded(x, y):
    table = pyro.param("table", torch.zeros(3, 1))
    with pyro.plate("data", ROWS, subsample=x):
        pyro.sample("x", dist.Normal(nn.functional.embedding(y, table)[:, 0], 1.0), obs=x)


def nothing(**columns):
    pass


def call(model=model, guide=None, data=None, steps=2, **options):
    guide = AutoNormal(model) if guide is None else guide
    if not options.keys() & {"epochs"}:
        options["steps"] = steps
    return fit(model, guide, {"x": X} if data is None else data, progress=False, **options)


LABELS = torch.arange(ROWS) % 3
NAN = math.nan
REFUSED = [
    ({"estimator": "LeaveOneOut"}, r"the text 'LeaveOneOut': give the object, LeaveOneOut\(\)"),
    ({"estimator": "elbo"}, "the text 'elbo'"),
    ({"estimator": LeaveOneOut}, "the class LeaveOneOut: give an instance"),
    ({"estimator": Trace_ELBO}, "the class Trace_ELBO: give an instance"),
    ({"estimator": nn.Linear(1, 1)}, "a Linear: give a pyro.infer.ELBO"),
    ({"guide": AutoNormal}, "the guide is the class AutoNormal: give an instance"),
    ({"model": Coloured, "guide": of_coloured}, "the model is the class Coloured"),
    ({"guide": 3}, "the guide is 3: give a function"),
    ({"guide": lambda data: None}, r"guide's arguments are \(data\) .*columns \['x'\]"),
    ({"guide": lambda: None}, r"guide's arguments are \(\)"),
    ({"steps": 0}, "steps is 0: give a whole number, at least 1"),
    ({"steps": True}, "steps is True"),
    ({"steps": NAN}, "steps is nan"),
    ({"epochs": -1}, "epochs is -1"),
    ({"epochs": 1.5}, "epochs is 1.5"),
    ({"epochs": "3"}, "epochs is '3'"),
    ({"seeds": 0}, "seeds is 0: give how many"),
    ({"seeds": -1}, "seeds is -1"),
    ({"seeds": []}, r"seeds is \[\]"),
    ({"seeds": 1.5}, "seeds is 1.5"),
    ({"seeds": "a"}, "seeds is 'a'"),
    ({"seeds": [1, 1]}, r"seeds is \[1, 1\]: give each seed once"),
    ({"seeds": [1.5]}, "1.5 is not a seed"),
    ({"seeds": [-1]}, "-1 is not a seed"),
    ({"seeds": [2**70]}, "is not a seed: give integers from 0"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"batch_size": 2.5}, "batch_size is 2.5"),
    ({"batch_size": "5"}, "batch_size is '5'"),
    ({"batch_size": ROWS + 1}, "batch_size is 13, but the data have 12 rows"),
    ({"clip_norm": 0}, "clip_norm is 0: give a number above 0"),
    ({"clip_norm": -1.0}, "clip_norm is -1.0"),
    ({"clip_norm": NAN}, "clip_norm is nan"),
    ({"clip_norm": "1"}, "clip_norm is '1'"),
    ({"patience": 0, "valid": {"x": X}}, "patience is 0"),
    ({"patience": 1.5, "valid": {"x": X}}, "patience is 1.5"),
    ({"checkpoint_every": NAN}, "checkpoint_every is nan"),
    ({"checkpoint_every": -1.0}, "checkpoint_every is -1.0"),
    ({"schedule": 0.5}, "schedule is 0.5: give a function"),
    ({"schedule": "cosine"}, "schedule is 'cosine'"),
    ({"schedule": lambda progress: NAN}, r"schedule\(0.0\) is nan"),
    ({"anneal": 0.5}, "anneal is 0.5"),
    ({"anneal": lambda progress: -1.0}, r"anneal\(0.0\) is -1.0"),
    ({"anneal": lambda progress: math.inf}, r"anneal\(0.0\) is inf"),
    ({"device": "gpu"}, "device 'gpu' is not a device of torch"),
    ({"precision": torch.float64}, "precision torch.float64 is not one of"),
    ({"optimizer": torch.optim.Adam([torch.zeros(1)])}, "is a finished Adam"),
    ({"optimizer": functools.partial(torch.optim.Adam, lr=NAN)}, "Invalid learning rate: nan"),
    ({"data": X}, "data of type Tensor cannot be used"),
    ({"data": X.numpy()}, "data of type ndarray cannot be used"),
    ({"data": TensorDataset(X)}, r"TensorDataset's tensors have no names: .*data.tensors\[0\]"),
    ({"data": [1.0, 2.0]}, "an item of the data set is a float"),
    ({"data": []}, "the data set has no items"),
    ({"data": {"x": torch.tensor(1.0)}}, "column 'x' is one number"),
    ({"data": {"x": ["a"] * ROWS}}, "column 'x' is not numeric"),
    ({"data": {"z": X}}, r"the model's arguments are \(x\) but the data's columns are \['z'\]"),
    ({"model": own_rows, "batch_size": 6}, "plate 'data' draws 4 of 12 rows itself, but is given"),
    ({"valid": {"x": X[:, None]}}, r"column 'x' of the held-out data has rows of shape \(1,\)"),
    ({"valid": {"x": X / 0}}, "column 'x' holds 12 NaN or infinite numbers, the first in row 0"),
    (
        {"model": own_rows, "guide": of_own_rows, "valid": {"x": X}},
        "plate 'data' draws 4 of 12 rows itself, but is given 1",
    ),
    (
        {"model": own_rows, "guide": of_own_rows, "data": {"x": torch.linspace(0, 1, 20)}},
        "plate 'data' has size 12, but the data have 20 rows, of which the last have no influence",
    ),
    ({"directory": __file__}, "test_arguments.py is a file: choose another directory"),
    ({"directory": f"{__file__}/run"}, "test_arguments.py is a file: choose another directory"),
    ({"estimator": TraceTailAdaptive_ELBO()}, "TraceTailAdaptive_ELBO gives no bound"),
    ({"estimator": ReweightedWakeSleep()}, "Pyro's ReweightedWakeSleep gives no bound"),
    (
        {"model": clicks, "data": {"x": X, "y": LABELS > 0}},
        "y bool, parameters float32.* of a Bernoulli, as floats",
    ),
    (
        {"model": clicks, "data": {"x": X, "y": (LABELS > 0).long()}},
        "y int64, parameters float32.* of a Bernoulli, as floats",
    ),
    (
        {"model": of_single_precision, "precision": "float64"},
        "tensors of different types are combined .* any other within the program",
    ),
    ({"model": column_of_columns}, r"'x' observes values of shape \(12, 1\), which its Normal"),
    ({"model": twice, "guide": of_own_rows}, "site 'w' comes twice in one run"),
    ({"model": inverted, "guide": of_own_rows}, "the scale of a Normal became -1"),
    ({"model": nothing, "guide": nothing}, "neither model nor guide has a sample site"),
    (
        {"model": Coloured(), "guide": of_coloured, "precision": "float64"},
        "tensors of different types are combined .* a tensor that a module keeps a buffer",
    ),
    (
        {"model": embedded, "guide": nothing, "data": {"x": X, "y": LABELS.float()}},
        "the columns are x float32, y float32.* labels as whole numbers",
    ),
    (
        {"model": classes, "data": {"x": X, "y": LABELS + 1}},
        "site 'y' observes values from 1 to 3, some of which its Categorical does not give",
    ),
    (
        {"model": classes, "data": {"x": X, "y": LABELS - 1}},
        "site 'y' observes values from -1 to 1",
    ),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSED)
def test_refused(options, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        call(**options, **({"precision": "float32"} if "precision" not in options else {}))
    assert "\n" not in str(caught.value)


class Frame(dict):
    """As a data frame of pandas', which the library does not need."""

    columns = property(lambda self: list(self))

    def to_numpy(self):
        raise AssertionError("column by column")


class Series(np.ndarray):
    def to_numpy(self, copy):
        return np.array(self, copy=copy)


class Items(Dataset):
    def __len__(self):
        return ROWS

    def __getitem__(self, i):
        return {"x": X[i]}


@pytest.mark.parametrize(
    "data",
    [
        Frame(x=X.numpy().view(Series)),
        {"x": X.tolist()},
        {"x": X.numpy()},
        Items(),
        [{"x": value} for value in X],
    ],
)
def test_data_of_other_kinds_give_the_same_numbers(data):
    first, second = (call(data=d).trace["svi"]["elbo"].to_numpy() for d in (data, {"x": X}))
    assert (first == second).all()


def test_a_plate_that_draws_its_rows_works_on_whole_data_as_in_the_tutorials():
    assert call(own_rows).params


@pytest.mark.parametrize("rows", [ROWS - 3, ROWS + 8])
def test_a_posterior_of_rows_that_a_plate_does_not_take_is_refused(rows):
    run = call(own_rows, of_own_rows)
    with pytest.raises(UserError, match=f"12 in all, but the data have {rows}: give as many"):
        run.posterior(4, {"x": torch.linspace(0, 1, rows)}, progress=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (({"x": X},), "num_samples is <class 'dict'>: give a whole number"),
        ((0,), "num_samples is 0: give a whole number, at least 1"),
        ((4, {"x": X[:, None]}), r"column 'x' of the data has rows of shape \(1,\)"),
        ((4, {"z": X}), "name the columns after the arguments"),
    ],
)
def test_a_posterior_of_other_columns_is_refused(arguments, sentence):
    run = call()
    with pytest.raises(UserError, match=sentence):
        run.posterior(*arguments, progress=False)
