"""Two processes' parts of a batch, averaged: the whole batch's step, without starting processes."""

import contextlib

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from inference import UserError
from inference.engine.gradient.averaged import (
    AveragedGradient,
    mutable_state,
    refuse_averages,
)
from inference.engine.gradient.plain import PlainGradient
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from inference.estimators import MovingAverage, NeuralBaseline, ScoreFunction

X = torch.tensor([0.4, -1.2, 2.0, 0.9, -0.3], dtype=torch.float64)
PARTS = X[:3], X[3:]


class Model(PyroModule):
    """Bits whose value is known beforehand: no noise, so that parts and whole are comparable."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.5))
        self.unused = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x):
        self.seen += torch.stack([x.mean(), x.square().mean()]).detach()
        with pyro.plate("data", 10, subsample=x):
            b = pyro.sample("b", dist.Bernoulli(0.3).expand(x.shape))
            pyro.sample("x", dist.Normal(self.w * b, 1.0), obs=x)


class Guide(PyroModule):
    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        certain = torch.where(x > 0, 40.0, -40.0)
        with pyro.plate("data", 10, subsample=x):
            pyro.sample("b", dist.Bernoulli(logits=certain + self.logit * x))


def gradient(clip_norm=None):
    pyro.clear_param_store()
    program = Program(Model(), Guide())
    program.initialise({"x": X}, 10)
    terms = Terms(ScoreFunction(baseline=MovingAverage()))
    plain = PlainGradient(program, terms, clip_norm, contextlib.nullcontext)
    loss = plain({"x": X}).loss
    terms.probe(loss * 5)
    terms.estimator.baseline.averages["b"].copy_(torch.tensor([0.3, 0.5]))
    program.model.seen.zero_()
    return plain


class Pair:
    """The first of two processes, told what the other has sent."""

    def __init__(self, other=None):
        self.other, self.sent = other, None

    def average(self, tensors, rows):
        self.sent = [t.clone() for t in tensors], rows
        if self.other is None:
            return [t.clone() for t in tensors]
        theirs, their_rows = self.other
        total = rows + their_rows
        pairs = zip(tensors, theirs, strict=True)
        return [(a * rows + b * their_rows) / total for a, b in pairs]


def step(plain):
    result = plain({"x": X})
    average = plain.terms.estimator.baseline.averages["b"]
    return result, [p.grad for p in plain.named.values()], plain.program.model.seen, average


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_the_parts_are_the_whole(clip_norm):
    result, gradients, seen, average = step(gradient(clip_norm))
    alone = Pair()
    AveragedGradient(gradient(), None, alone)({"x": PARTS[1]})
    mine = gradient()
    averaged = AveragedGradient(mine, clip_norm, Pair(alone.sent))
    found = averaged({"x": PARTS[0]})
    torch.testing.assert_close(tuple(found), tuple(result), rtol=1e-12, atol=1e-14)
    for parameter, expected in zip(mine.named.values(), gradients, strict=True):
        if expected is None:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(mine.program.model.seen, seen, rtol=1e-12, atol=0)
    own = mine.terms.estimator.baseline.averages["b"]
    bits = (X > 0).double()
    signal = dist.Bernoulli(0.3).log_prob(bits) + dist.Normal(1.5 * bits, 1.0).log_prob(X)
    of_parts = 0.6 * 10 / 3 * signal[:3].mean() + 0.4 * 10 / 2 * signal[3:].mean()
    torch.testing.assert_close(own[0], 0.9 * 0.3 + 0.1 * of_parts, rtol=1e-9, atol=0)
    assert own[1] == average[1] == 0.9 * 0.5 + 0.1
    assert mine.program.model.count == 3


def test_the_estimator_s_buffers_are_state_too():
    """Running statistics of a baseline's network, and its averages; no flags."""
    network = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1))
    network.register_buffer("flag", torch.tensor(True))
    estimator = ScoreFunction(baseline=NeuralBaseline(network, lambda x: x[:, None]))
    plain = gradient()
    estimator.differentiable_loss(plain.program.model, plain.program.guide, X)
    found = {name.split(".")[-1] for name, _ in mutable_state(plain.program, estimator)}
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    assert statistics | {"seen", "count", "offset b"} == found


@pytest.mark.parametrize(
    ("options", "sizes", "words"),
    [
        ({"normalise": True}, (4, 4), "normalise divides a signal by its spread within one"),
        ({"baseline": MovingAverage()}, (4, 3), "2 processes share evenly, and one has 3 rows"),
        ({"baseline": MovingAverage()}, (4, 2), None),
        ({}, (4, 3), None),
    ],
)
def test_averages_that_shards_do_not_have_in_common_are_refused(options, sizes, words):
    estimator = ScoreFunction(**options)
    with pytest.raises(UserError, match=words) if words else contextlib.nullcontext():
        refuse_averages(estimator, sizes, 2)
