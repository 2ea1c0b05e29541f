"""Trainings that end before they are done: python -m tests.support.ending KIND [DIRECTORY]."""

import sys
import time

import pyro
import pyro.distributions as dist
import torch

from inference import Streamed, UserError, fit
from inference.data.columns import epoch_order
from inference.estimators import DecayingAverage, MovingAverage, ScoreFunction

SIZE = 40
ROW = 17  # where something is wrong: in one process's part of a batch


class Rows(torch.utils.data.Dataset):
    """One of them cannot be read, or each takes its time."""

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return SIZE

    def __getitem__(self, i):
        if self.kind == "row" and i == ROW:
            raise UserError(f"row {i} cannot be read")
        time.sleep(0.001)
        return {"x": float(i)}


def model(x):
    """Its log-density is not finite where x is negative."""
    with pyro.plate("data", SIZE, subsample=x):
        pyro.sample("b", dist.Bernoulli(0.5).expand(x.shape))
        pyro.sample("x", dist.Delta(x + 0 * x.sqrt()), obs=x)


def growing(x):
    """Has another parameter where x is negative."""
    loc = pyro.param("late", torch.tensor(0.0)) if (x < 0).any() else 0.0
    with pyro.plate("data", SIZE, subsample=x):
        pyro.sample("b", dist.Bernoulli(0.5).expand(x.shape))
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def whole(x):
    with pyro.plate("data", SIZE):
        pyro.sample("b", dist.Bernoulli(0.5).expand([SIZE]))
        pyro.sample("x", dist.Normal(0.0, 1.0).expand([SIZE]), obs=x)


def guide(x):
    q = pyro.param("q", torch.tensor(0.3))
    with pyro.plate("data", SIZE, subsample=x):
        pyro.sample("b", dist.Bernoulli(logits=q.expand(x.shape)))


MODELS = {"whole": whole, "late": growing, "first": growing}
ESTIMATORS = {
    "stored": DecayingAverage(),
    "uneven": ScoreFunction(baseline=MovingAverage()),
    "normalised": ScoreFunction(normalise=True),
}


def main(kind, directory=None):
    x = torch.rand(SIZE, generator=torch.Generator().manual_seed(0))
    first, *_, last = epoch_order(SIZE, 10, 0, 0)
    if kind in ("nan", "late", "first"):
        x[{"nan": ROW, "late": last[-1], "first": first[-1]}[kind]] = -1.0
    options = {"epochs": 3, "batch_size": 10, "progress": False}
    if kind == "slow":
        options |= {"epochs": 1000, "directory": directory, "resume": True, "checkpoint_every": 1e9}
    if kind == "whole":
        options["batch_size"] = None
    data = Streamed(Rows(kind)) if kind in ("row", "slow") else {"x": x}
    if kind == "uneven":
        options["batch_size"] = 9
    fit(MODELS.get(kind, model), guide, data, ESTIMATORS.get(kind), **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
