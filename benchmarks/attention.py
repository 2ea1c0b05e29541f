"""A captioner with hard attention, score function: compiled, against plain PyTorch and Pyro's SVI.

The guide is the prior (the bound L_s of Show, Attend and Tell), so that Pyro runs the network
twice, in guide and model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, SVI, Trace_ELBO, TraceGraph_ELBO
from pyro.nn import PyroModule
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import Row, Step, in_turn, rows
from inference.data.columns import Batch
from inference.engine.gradient.captured import CapturedGradient
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from inference.estimators import ScoreFunction

ROWS, LOCATIONS, FEATURES, HIDDEN, WORDS = 64, 49, 128, 128, 1000
GOALS = {"plain PyTorch": 1.05, "SVI, Trace_ELBO": 0.5, "SVI, TraceGraph_ELBO": 0.2}
OURS = "compiled"


class Decoder(nn.Module):
    """Attention from the state; the next state and word from the attended features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, HIDDEN)
        self.features = nn.Linear(FEATURES, HIDDEN)
        self.state = nn.Linear(HIDDEN, HIDDEN)
        self.look = nn.Linear(HIDDEN, 1)
        self.cell = nn.LSTMCell(HIDDEN + FEATURES, HIDDEN)
        self.say = nn.Linear(HIDDEN, WORDS)

    def start(self, a: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """The initial state, and the attention's keys."""
        zeros = a.new_zeros(len(a), HIDDEN)
        return (zeros, zeros), self.features(a)

    def attend(self, state: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        """Logits of the locations."""
        return self.look(torch.tanh(seen + self.state(state[0])[:, None]))[..., 0]

    def step(
        self, state: tuple[Tensor, Tensor], a: Tensor, s: Tensor, word: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next state."""
        context = (s[..., None] * a).sum(1)
        return self.cell(torch.cat([self.embed(word), context], -1), state)


class Captioner(PyroModule):
    """Model, and with ``looking`` alone the guide."""

    def __init__(self, decoder: Decoder, looking: bool) -> None:
        super().__init__()
        self.decoder, self.looking = decoder, looking

    def forward(self, a: Tensor, y: Tensor) -> None:
        """a (B, L, D), y (B, T + 1) words, the first a start."""
        with pyro.plate("data", len(a)):
            state, seen = self.decoder.start(a)
            for t in range(y.shape[1] - 1):
                logits = self.decoder.attend(state, seen)
                s = pyro.sample(f"s{t}", dist.OneHotCategorical(logits=logits))
                state = self.decoder.step(state, a, s, y[:, t])
                if not self.looking:
                    said = dist.Categorical(logits=self.decoder.say(state[0]))
                    pyro.sample(f"y{t}", said, obs=y[:, t + 1])


def by_hand(decoder: Decoder, a: Tensor, y: Tensor) -> Tensor:
    """−L_s by value, its score-function gradient with reward-to-go; the network runs once."""
    state, seen = decoder.start(a)
    said, looked = [], []
    for t in range(y.shape[1] - 1):
        log_q = decoder.attend(state, seen).log_softmax(-1)
        s = torch.multinomial(log_q.detach().exp(), 1)
        looked.append(log_q.gather(1, s)[:, 0])
        state = decoder.step(state, a, F.one_hot(s[:, 0], LOCATIONS).float(), y[:, t])
        said.append(-F.cross_entropy(decoder.say(state[0]), y[:, t + 1], reduction="none"))
    rewards = torch.stack(said)
    signal = rewards.detach().flip(0).cumsum(0).flip(0)
    score = (signal * torch.stack(looked)).sum()
    bound = rewards.sum()
    return -(bound + score - score.detach()) / len(a)


def plain(batch: Batch) -> Step:
    """Loss, backward and a fused Adam, without Pyro."""
    torch.manual_seed(0)
    decoder = Decoder()
    optimizer = torch.optim.Adam(decoder.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        by_hand(decoder, batch["a"], batch["y"]).backward()
        optimizer.step()

    return step


def compiled(batch: Batch) -> Step:
    """The same through the program, captured."""
    torch.manual_seed(0)
    decoder = Decoder()
    program = Program(Captioner(decoder, looking=False), Captioner(decoder, looking=True))
    with program.scope():
        program.initialise(batch, ROWS)
    gradient = CapturedGradient(program, Terms(ScoreFunction()), None, nullcontext)
    optimizer = torch.optim.Adam(gradient.parameters, fused=True)

    def step() -> None:
        with program.scope():
            gradient(batch)
        optimizer.step()

    return step


def svi(batch: Batch, elbo: ELBO) -> Step:
    """Pyro's own step."""
    torch.manual_seed(0)
    decoder = Decoder()
    model, guide = Captioner(decoder, looking=False), Captioner(decoder, looking=True)
    steps = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 1e-3}), elbo)
    return lambda: steps.step(**batch)


def drawn(length: int) -> Batch:
    """Random features and words."""
    y = torch.randint(WORDS, (ROWS, length + 1))
    return {"a": torch.randn(ROWS, LOCATIONS, FEATURES), "y": y}


def measure() -> Iterator[Row]:
    """Rows at 12 and 40 steps."""
    for length in (12, 40):
        batch = drawn(length)
        contenders = {
            OURS: compiled(batch),
            "plain PyTorch": plain(batch),
            "SVI, Trace_ELBO": svi(batch, Trace_ELBO()),
            "SVI, TraceGraph_ELBO": svi(batch, TraceGraph_ELBO()),
        }
        times = in_turn(contenders, blocks=15, steps=1 if length == 40 else 2)
        yield from rows(f"attention, {length} looks", OURS, GOALS, times)
