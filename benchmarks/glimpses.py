"""Six glimpses (RAM), leave-one-out of four: compiled, against plain PyTorch and uncompiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import Row, Step, in_turn, rows
from guides.prior import Prior
from inference.data.columns import Batch
from inference.engine.gradient.captured import CapturedGradient
from inference.engine.gradient.plain import PlainGradient
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from inference.estimators import LeaveOneOut
from ppl_models.glimpse_networks import RAM
from ppl_models.glimpses import Glimpses
from ppl_models.places import Anywhere
from ppl_models.retina import Retina, whole_pixels

ROWS, IMAGE, SIDE, LOOKS, RUNS, WIDTH, SIGMA = 128, 28, 8, 6, 4, 256, 0.1
GOALS = {"plain PyTorch": 1.0, "uncompiled": 1.0}
OURS = "compiled"


def networks() -> tuple[RAM, Anywhere]:
    """The same for all contenders."""
    torch.manual_seed(0)
    return RAM((1, SIDE, SIDE), 10, WIDTH), Anywhere(Retina(SIDE), WIDTH, SIGMA)


def by_hand(network: RAM, places: Anywhere, x: Tensor, y: Tensor) -> Tensor:
    """−E log p(y | l) by value; each run's score is centred by the mean of the others."""
    state, score = x.new_zeros(RUNS, len(x), WIDTH), x.new_zeros(RUNS, len(x))
    for _ in range(LOOKS):
        mean = torch.tanh(places.locate(state))
        where = (mean + SIGMA * torch.randn_like(mean)).detach()
        score = score - ((where - mean) / SIGMA).square().sum(-1) / 2
        place = where.clamp(-1, 1)
        state = network.step(state, whole_pixels(x, place, SIDE, 1), place)
    logits = network.say(state).flatten(0, 1)
    said = -F.cross_entropy(logits, y.repeat(RUNS), reduction="none").view(RUNS, -1)
    reward = said.detach()
    centred = (reward - reward.mean(0)) * RUNS / (RUNS - 1)
    return -(said + centred * (score - score.detach())).mean()


def plain(batch: Batch) -> Step:
    """Loss, backward and a fused Adam, without Pyro."""
    network, places = networks()
    parameters = [*network.parameters(), *places.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        by_hand(network, places, batch["x"], batch["y"]).backward()
        optimizer.step()

    return step


def ours(batch: Batch, compiled: bool) -> Step:
    """The program, captured or not."""
    model = Glimpses(*networks(), LOOKS, ROWS)
    program = Program(model, Prior(model))
    with program.scope():
        program.initialise(batch, ROWS)
    terms = Terms(LeaveOneOut(RUNS, vectorize_particles=True, max_plate_nesting=1))
    kind = CapturedGradient if compiled else PlainGradient
    gradient = kind(program, terms, None, nullcontext)
    optimizer = torch.optim.Adam(list(gradient.named.values()), fused=True)

    def step() -> None:
        with program.scope():
            gradient(batch)
        optimizer.step()

    return step


def measure() -> Iterator[Row]:
    """Rows for a batch of 128 images."""
    batch = {"x": torch.rand(ROWS, 1, IMAGE, IMAGE), "y": torch.randint(10, (ROWS,))}
    contenders = {
        OURS: ours(batch, compiled=True),
        "plain PyTorch": plain(batch),
        "uncompiled": ours(batch, compiled=False),
    }
    times = in_turn(contenders, blocks=15, steps=4)
    yield from rows(f"glimpses, {LOOKS} looks, {RUNS} runs", OURS, GOALS, times)
