"""A sigmoid belief network (784-200): estimators, compiled against uncompiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from pyro.infer import ELBO
from torch import nn

from benchmarks.timing import Row, Step, in_turn, rows
from guides.sigmoid_belief import BottomUpBernoulli
from inference.data.columns import Batch
from inference.engine.gradient.captured import CapturedGradient
from inference.engine.gradient.plain import PlainGradient
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from inference.estimators import REBAR, VIMCO, DisARM
from ppl_models.sigmoid_belief import SigmoidBeliefNetwork

PIXELS, UNITS, ROWS = 784, 200, 50


def contenders(estimator: ELBO, batch: Batch) -> dict[str, PlainGradient]:
    """The gradient of fit's step, both ways."""
    model = SigmoidBeliefNetwork([nn.Linear(UNITS, PIXELS)], UNITS, ROWS)
    guide = BottomUpBernoulli([nn.Linear(PIXELS, UNITS)], batch["x"].mean(0), ROWS)
    program = Program(model, guide)
    with program.scope():
        program.initialise(batch, ROWS)
    kinds = {"compiled": CapturedGradient, "uncompiled": PlainGradient}
    return {
        name: kind(program, Terms(estimator), None, nullcontext) for name, kind in kinds.items()
    }


def measure() -> Iterator[Row]:
    """A row for each estimator."""
    torch.manual_seed(0)
    batch = {"x": torch.rand(ROWS, PIXELS).round()}
    estimators = {
        "DisARM": DisARM(),
        "VIMCO(8)": VIMCO(8, vectorize_particles=True, max_plate_nesting=1),
        "REBAR": REBAR(),
    }
    for name, estimator in estimators.items():
        steps = {k: within(g, batch) for k, g in contenders(estimator, batch).items()}
        times = in_turn(steps, blocks=40, steps=4)
        yield from rows(f"{name}, belief network", "compiled", {"uncompiled": 0.6}, times)


def within(gradient: PlainGradient, batch: Batch) -> Step:
    """The call in its program's scope."""

    def step() -> None:
        with gradient.program.scope():
            gradient(batch)

    return step
