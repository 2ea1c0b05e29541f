"""Forty discrete sites in sequence: the cost of reward-to-go, uncompiled, against Pyro's."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pyro.infer import ELBO, Trace_ELBO, TraceGraph_ELBO

from benchmarks.timing import Row, Step, in_turn, rows
from guides.hard_attention import Looker
from inference.data.columns import Batch
from inference.engine.program.objective import backward
from inference.engine.program.program import Program
from inference.estimators import MovingAverage, ScoreFunction
from ppl_models.hard_attention import Glimpser, PatchAttention

STEPS, ROWS, OURS = 40, 64, "ScoreFunction"


def gradient(estimator: ELBO, program: Program, batch: Batch) -> Step:
    """Loss and backward."""

    def step() -> None:
        with program.scope():
            for parameter in program.parameters.values():
                parameter.grad = None
            backward(estimator, program, batch)

    return step


def measure() -> Iterator[Row]:
    """Rows against Trace_ELBO and TraceGraph_ELBO."""
    torch.manual_seed(0)
    glimpser = Glimpser(features=16, locations=9, classes=10)
    model = PatchAttention(glimpser, STEPS, ROWS)
    program = Program(model, Looker(glimpser, 16, STEPS, ROWS))
    batch = {"a": torch.randn(ROWS, 9, 16), "y": torch.randint(10, (ROWS,))}
    with program.scope():
        program.initialise(batch, ROWS)
    estimators = {
        OURS: ScoreFunction(baseline=MovingAverage()),
        "Trace_ELBO": Trace_ELBO(),
        "TraceGraph_ELBO": TraceGraph_ELBO(),
    }
    contenders = {name: gradient(e, program, batch) for name, e in estimators.items()}
    goals = {"Trace_ELBO": 1.6, "TraceGraph_ELBO": 1 / 3}
    yield from rows(f"{STEPS} discrete sites", OURS, goals, in_turn(contenders, blocks=30, steps=1))
