"""Sequences: hidden Markov models, state spaces, deep Markov models, recurrent networks.

Like Pyro's examples ``hmm``, ``mixed_hmm``, ``dmm`` and its tutorial on Gaussian state spaces.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, autoguide
from pyro.infer import config_enumerate as enumerated
from torch import nn

from tests.programs.registry import noise, program, uniform

N, T, STATES = 4, 4, 2


def symbols():
    return {"x": (3 * uniform(N, T)).long()}


def levels():
    return {"x": noise(N, T).cumsum(1)}


def hmm(x):
    """Chains of hidden states; one row a sequence."""
    stay = dist.Dirichlet(0.9 * torch.eye(STATES) + 0.3).to_event(1)
    moves = pyro.sample("moves", stay)
    emits = pyro.sample("emits", dist.Dirichlet(torch.ones(STATES, 3)).to_event(1))
    with pyro.plate("sequences", N, subsample=x, dim=-1):
        state = 0
        for t in pyro.markov(range(T)):
            state = pyro.sample(
                f"state_{t}", dist.Categorical(moves[state]), infer={"enumerate": "parallel"}
            )
            pyro.sample(f"x_{t}", dist.Categorical(emits[state]), obs=x[:, t])


@program(lambda: TraceEnum_ELBO(max_plate_nesting=1))
def hmm_map():
    """HMM: states summed out along pyro.markov, AutoDelta for the tables."""
    guide = autoguide.AutoDelta(poutine.block(hmm, expose=["moves", "emits"]))
    return hmm, guide, symbols(), guide


@program(lambda: TraceEnum_ELBO(max_plate_nesting=1), batch_size=2)
def hmm_minibatch():
    """HMM: the same on minibatches of sequences."""
    guide = autoguide.AutoDelta(poutine.block(hmm, expose=["moves", "emits"]))
    return hmm, guide, symbols(), guide


def hmm_by_matrices(x):
    moves = pyro.param(
        "moves", torch.tensor([[0.8, 0.2], [0.3, 0.7]]), constraint=constraints.simplex
    )
    emits = dist.Categorical(
        pyro.param("emits", 0.2 + uniform(2, 3), constraint=constraints.simplex)
    )
    start = dist.Categorical(torch.tensor([0.5, 0.5])).logits
    with pyro.plate("sequences", N, subsample=x):
        chain = dist.DiscreteHMM(start, moves.log(), emits, duration=T)
        pyro.sample("x", chain, obs=x)


@program()
def hmm_distribution():
    """HMM as one DiscreteHMM distribution, maximum likelihood."""
    return hmm_by_matrices, lambda x: None, symbols()


def walk(x):
    drift = pyro.sample("drift", dist.Normal(0.0, 1.0))
    with pyro.plate("sequences", N, subsample=x):
        z = torch.zeros(len(x))
        for t in pyro.markov(range(T)):
            z = pyro.sample(f"z_{t}", dist.Normal(z + drift, 0.7))
            pyro.sample(f"x_{t}", dist.Normal(z, 0.5), obs=x[..., t])


def walk_guide(x):
    pyro.sample("drift", dist.Normal(pyro.param("drift_loc", torch.tensor(0.1)), 0.2))
    gain = pyro.param("gain", torch.full((T,), 0.5))
    width = pyro.param("width", torch.full((T,), 0.4), constraint=constraints.positive)
    with pyro.plate("sequences", N, subsample=x):
        for t in pyro.markov(range(T)):
            pyro.sample(f"z_{t}", dist.Normal(gain[t] * x[..., t], width[t]))


@program(batch_size=2)
def state_space():
    """Gaussian random walk, step by step, mean-field amortised guide, minibatches."""
    return walk, walk_guide, levels()


@program()
def linear_gaussian():
    """Gaussian state space as one GaussianHMM distribution, AutoNormal for its widths."""

    def model(x):
        step = pyro.sample("step", dist.LogNormal(-0.5, 0.3))
        one, blur = torch.eye(1), dist.Normal(torch.zeros(1), 0.5).to_event(1)
        move = dist.Normal(torch.zeros(T, 1), step).to_event(1)
        start = dist.Normal(torch.zeros(1), 1.0).to_event(1)
        with pyro.plate("sequences", N, subsample=x):
            chain = dist.GaussianHMM(start, one, move, one, blur, duration=T)
            pyro.sample("x", chain, obs=x[..., None])

    guide = autoguide.AutoNormal(model)
    return model, guide, levels(), guide


@program(lambda: TraceEnum_ELBO(max_plate_nesting=2))
def hmm_mixed():
    """HMM with a discrete random effect of each group, everything summed out, empty guide."""

    def model(x):
        effects = pyro.param("effects", torch.tensor([0.5, 0.5]), constraint=constraints.simplex)
        shift = pyro.param("shift", torch.tensor([-1.0, 1.0]))
        moves = pyro.param("moves", 0.2 + uniform(2, 2), constraint=constraints.simplex)
        groups = x.reshape(2, 2, T)
        with pyro.plate("groups", 2, dim=-1):
            effect = pyro.sample("effect", dist.Categorical(effects))
            with pyro.plate("animals", 2, dim=-2):
                state = torch.tensor(0)
                for t in pyro.markov(range(T)):
                    state = pyro.sample(f"state_{t}", dist.Categorical(moves[state]))
                    level = shift[effect] + 2.0 * state
                    pyro.sample(f"x_{t}", dist.Normal(level, 1.0), obs=groups[..., t])

    return enumerated(model), lambda x: None, levels()


@program(lambda: TraceEnum_ELBO(max_plate_nesting=1))
def hmm_factorial():
    """HMM of two chains at once, summed out, maximum likelihood."""

    def model(x):
        moves = pyro.param("moves", 0.2 + uniform(2, 2, 2), constraint=constraints.simplex)
        height = pyro.param("height", torch.tensor([1.0, -2.0]))
        with pyro.plate("sequences", N, subsample=x):
            a = b = torch.tensor(0)
            for t in pyro.markov(range(3)):
                a = pyro.sample(f"a_{t}", dist.Categorical(moves[0][a]))
                b = pyro.sample(f"b_{t}", dist.Categorical(moves[1][b]))
                level = height[0] * a + height[1] * b
                pyro.sample(f"x_{t}", dist.Normal(level, 1.0), obs=x[:, t])

    return enumerated(model), lambda x: None, levels()


class DeepMarkov(nn.Module):
    """A GRU reads the sequence backwards for the guide; small networks move and emit."""

    def __init__(self):
        super().__init__()
        self.move, self.emit = nn.Linear(2, 2), nn.Linear(2, 3)
        self.reader, self.combine = nn.GRU(3, 4, batch_first=True), nn.Linear(2 + 4, 4)
        self.z_0 = nn.Parameter(torch.zeros(2))

    def model(self, x, lengths):
        pyro.module("dmm", self)
        z = self.z_0.expand(len(x), 2)
        with pyro.plate("sequences", N, subsample=x, dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=t < lengths):
                    z = pyro.sample(
                        f"z_{t}", dist.Normal(torch.tanh(self.move(z)), 0.5).to_event(1)
                    )
                    notes = dist.Bernoulli(logits=self.emit(z)).to_event(1)
                    pyro.sample(f"x_{t}", notes, obs=x[:, t])

    def guide(self, x, lengths):
        pyro.module("dmm", self)
        read = self.reader(x.flip(1))[0].flip(1)
        z = torch.zeros(len(x), 2)
        with pyro.plate("sequences", N, subsample=x, dim=-1):
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=t < lengths):
                    loc, width = self.combine(torch.cat([z, read[:, t]], -1)).chunk(2, -1)
                    z = pyro.sample(f"z_{t}", dist.Normal(loc, width.exp()).to_event(1))


@program(batch_size=2)
def deep_markov():
    """Deep Markov model: GRU guide, masked lengths, bound methods, minibatches."""
    dmm = DeepMarkov()
    data = {"x": (uniform(N, T, 3) < 0.5).to(torch.get_default_dtype())}
    return dmm.model, dmm.guide, data | {"lengths": torch.tensor([4, 2, 3, 4])}, dmm


class TextRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.cell, self.last = nn.Embedding(3, 2), nn.LSTMCell(2, 3), nn.Linear(3, 3)
        self.reader = nn.Linear(T, 4)

    def model(self, x):
        pyro.module("text", self)
        with pyro.plate("sequences", N, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            h, c = nn.functional.pad(z, (0, 1)), torch.zeros(len(x), 3)
            for t in range(T):
                word = pyro.sample(f"x_{t}", dist.Categorical(logits=self.last(h)), obs=x[:, t])
                h, c = self.cell(self.table(word), (h, c))

    def guide(self, x):
        pyro.module("text", self)
        loc, width = self.reader(x.to(torch.get_default_dtype())).chunk(2, -1)
        with pyro.plate("sequences", N, subsample=x):
            pyro.sample("z", dist.Normal(loc, width.exp()).to_event(1))


@program(TraceMeanField_ELBO)
def sentence_vae():
    """LSTM cell that writes symbols from a sentence's latent; analytic KL."""
    text = TextRNN()
    return text.model, text.guide, symbols(), text


@program()
def stochastic_volatility():
    """Stochastic volatility: a vectorised random walk of log-widths, AutoNormal."""

    def model(x):
        with pyro.plate("time", 8, subsample=x):
            step = pyro.sample("step", dist.Normal(0.0, 0.3))
            pyro.sample("x", dist.Normal(0.0, step.cumsum(-1).exp()), obs=x)

    guide = autoguide.AutoNormal(model)
    return model, guide, {"x": noise(8)}, guide


@program(lambda: TraceEnum_ELBO(max_plate_nesting=1))
def change_point():
    """Change point of Poisson rates, the moment summed out, AutoNormal for the rates."""

    def model(counts):
        before = pyro.sample("before", dist.Gamma(2.0, 1.0))
        after = pyro.sample("after", dist.Gamma(2.0, 1.0))
        moment = pyro.sample(
            "moment", dist.Categorical(torch.ones(8)), infer={"enumerate": "parallel"}
        )
        with pyro.plate("days", 8):
            rate = torch.where(torch.arange(8) < moment, before, after)
            pyro.sample("counts", dist.Poisson(rate), obs=counts)

    guide = autoguide.AutoNormal(poutine.block(model, hide=["moment"]))
    counts = torch.tensor([0.0, 1.0, 1.0, 0.0, 4.0, 6.0, 5.0, 3.0])
    return model, guide, {"counts": counts}, guide


@program(lambda: TraceGraph_ELBO(max_plate_nesting=1))
def regime_switching():
    """Regimes of a time series drawn in the guide one after the other, score function."""

    def model(x):
        loc = pyro.param("loc", torch.tensor([-1.0, 1.0]))
        with pyro.plate("sequences", N, subsample=x):
            regime = torch.zeros(len(x)).long()
            for t in pyro.markov(range(3)):
                stay = torch.tensor([[0.8, 0.2], [0.2, 0.8]])[regime]
                regime = pyro.sample(f"regime_{t}", dist.Categorical(stay))
                pyro.sample(f"x_{t}", dist.Normal(loc[regime], 1.0), obs=x[:, t])

    def guide(x):
        logits = pyro.param("logits", torch.zeros(3, 2))
        with pyro.plate("sequences", N, subsample=x):
            for t in range(3):
                score = logits[t] * x[:, t : t + 1]
                pyro.sample(f"regime_{t}", dist.Categorical(logits=score))

    return model, guide, levels()
