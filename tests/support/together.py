"""Trainings that test_processes does in one process and in several.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.support.together FOLDER
"""

import os
import sys
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceGraph_ELBO
from pyro.nn import PyroModule
from torch import nn

from guides.empty import Empty
from inference import Columns, Streamed, fit
from inference.engine.optim import SparseAdagrad
from inference.engine.training.schedules import warm_up
from inference.estimators import Exact, MovingAverage, Pathwise, ScoreFunction
from ppl_models.language import LogBilinear, WordScores
from ppl_models.nce import Softmax

SIZE = 38  # in batches of 15: two parts of 7 and 8 rows; of 16: twice 8, the last batch twice 3
quiet = partial(fit, progress=False, precision="float64", epochs=3, batch_size=15)


class GivenNormal(dist.Normal):
    """Its draw is made of noise that is given."""

    def __init__(self, loc, scale, noise):
        super().__init__(loc, scale)
        self.noise = noise

    def expand(self, shape, _instance=None):
        return GivenNormal(*(t.expand(shape) for t in (self.loc, self.scale, self.noise)))

    def rsample(self, sample_shape=()):
        return self.loc + self.scale * self.noise


class GivenBernoulli(dist.Bernoulli):
    """The same, for uniform noise."""

    def __init__(self, logits, noise):
        super().__init__(logits=logits)
        self.noise = noise

    def expand(self, shape, _instance=None):
        return GivenBernoulli(self.logits.expand(shape), self.noise.expand(shape))

    def sample(self, sample_shape=()):
        return (self.noise < self.probs).to(self.noise)


class Levels(PyroModule):
    """w ~ N(0, 1), z_n ~ N(w, 1), x_n ~ N(z_n, 1); one parameter is never used."""

    def __init__(self):
        super().__init__()
        self.spread = nn.Parameter(torch.tensor(0.2))
        self.idle = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, e):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", SIZE, subsample=x):
            z = pyro.sample("z", dist.Normal(w, 1.0))
            pyro.sample("x", dist.Normal(z, self.spread.exp()), obs=x)


class LevelsGuide(PyroModule):
    def __init__(self):
        super().__init__()
        self.loc, self.slope = (nn.Parameter(torch.tensor(v)) for v in (0.1, 0.3))
        self.rest = nn.Parameter(torch.linspace(0.8, 1.3, 6).view(2, 3).T)  # strides (1, 3)

    def forward(self, x, e):
        pyro.sample("w", GivenNormal(self.loc, torch.tensor(0.5), torch.tensor(0.7)))
        with pyro.plate("data", SIZE, subsample=x):
            loc = self.slope * x * self.rest.prod()
            pyro.sample("z", GivenNormal(loc, torch.full_like(loc, 0.6), e))


class Bits(PyroModule):
    """c and b_n bits, x_n ~ N(v b_n + c, 1)."""

    def __init__(self):
        super().__init__()
        self.v = nn.Parameter(torch.tensor(1.5))

    def forward(self, x, e):
        c = pyro.sample("c", dist.Bernoulli(0.5))
        with pyro.plate("data", SIZE, subsample=x):
            b = pyro.sample("b", dist.Bernoulli(0.3).expand(x.shape))
            pyro.sample("x", dist.Normal(self.v * b + c, 1.0), obs=x)


class BitsGuide(PyroModule):
    """Centres x by a running mean, and counts its steps."""

    def __init__(self, given):
        super().__init__()
        self.given = given
        self.slope, self.common = (nn.Parameter(torch.tensor(v)) for v in (0.4, 0.2))
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x, e):
        logits = self.slope * (x - self.mean)
        if torch.is_grad_enabled():
            self.mean.lerp_(x.mean(), 0.1)
            self.count.add_(1)
        if self.given:
            c, b = GivenBernoulli(self.common, torch.tensor(0.3)), GivenBernoulli(logits, e)
        else:
            c, b = dist.Bernoulli(logits=self.common), dist.Bernoulli(logits=logits)
        pyro.sample("c", c)
        with pyro.plate("data", SIZE, subsample=x):
            pyro.sample("b", b)


class Rows(torch.utils.data.Dataset):
    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return SIZE

    def __getitem__(self, i):
        return {name: column[i] for name, column in self.columns.items()}


def levels(data, **options):
    return quiet(Levels(), LevelsGuide(), data, Pathwise(), **options)


def bits(data, estimator, given=True, **options):
    return quiet(Bits(), BitsGuide(given), data, estimator, batch_size=16, **options)


def words():
    """Contexts of two words, whose vectors' gradients are sparse, and the word after them."""
    c, w = torch.randint(9, (SIZE, 2)), torch.randint(9, (SIZE,))
    model = Softmax(LogBilinear(9, 2, 3, sparse=True), WordScores(torch.zeros(9), 3), SIZE)
    adagrad = partial(SparseAdagrad, lr=0.1)
    return partial(quiet, model, Empty(), {"c": c, "w": w}, optimizer=adagrad, clip_norm=0.1)


def jobs():
    """Name → a function that trains and gives its run."""
    torch.manual_seed(0)
    normal = {"x": torch.randn(SIZE) + 2, "e": torch.randn(SIZE)}
    uniform = {"x": torch.randn(SIZE) + 1, "e": torch.rand(SIZE)}
    adam = partial(torch.optim.AdamW, lr=0.05, weight_decay=0.1, fused=True)
    levels_ = partial(levels, normal, optimizer=adam)
    average = partial(ScoreFunction, baseline=MovingAverage())
    held_out = {"valid": normal, "patience": 2, "epochs": 200}
    return {
        "levels": levels_,
        "clipped": partial(levels_, clip_norm=0.5, anneal=warm_up(0.5)),
        "all rows": partial(levels_, batch_size=None),
        "streamed": partial(levels, Streamed(Rows(normal)), optimizer=adam),
        "held out": partial(levels_, **held_out),
        "score": lambda: bits(uniform, average(), optimizer=adam),
        "captured": lambda: bits(uniform, average(), optimizer=adam, clip_norm=0.1, compile=True),
        "score, Pyro's": lambda: bits(uniform, TraceGraph_ELBO(), optimizer=adam),
        "sparse": words(),
        "exact": lambda: bits(uniform, Exact(), given=False, optimizer=adam),
    }


def train(job):
    """What is compared: the trace by name, parameters and buffers."""
    run = job()
    groups = {name: group.to_dataset() for name, group in run.trace.children.items()}
    found = {
        f"{group} {name}": torch.from_numpy(values.to_numpy().copy())
        for group, dataset in groups.items()
        for name, values in dataset.items()
        if name != "seconds"
    }
    return found | run.params | dict(run.programs[0].buffers())


def noise():
    """(8,) normal draws that a fit's transform has made."""
    drawn = []

    def draw(batch):
        drawn.append(torch.randn(8))
        return batch

    data = Columns({"x": torch.zeros(SIZE), "e": torch.zeros(SIZE)}, draw)
    levels(data, epochs=1, batch_size=None)
    return drawn[-1]


def main(folder):
    torch.set_default_dtype(torch.float64)
    found = {name: train(job) for name, job in jobs().items()}
    found["noise"] = noise()
    torch.save(found, Path(folder) / f"{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
