"""Forty discrete sites in sequence: what reward-to-go costs: python -m benchmarks.sites.

One step (loss and backward) of ScoreFunction beside Trace_ELBO's and TraceGraph_ELBO's on the same
program, turn by turn.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO
from rich.console import Console
from rich.table import Table

from guides.hard_attention import Looker
from inference.estimators import MovingAverage, ScoreFunction
from inference.objective import backward
from inference.program import Program
from ppl_models.hard_attention import Glimpser, HardAttention

STEPS, ROWS, BLOCKS = 40, 64, 30


def main() -> None:
    """Table on the screen, figures in runs/bench/sites.json."""
    torch.manual_seed(0)
    glimpser = Glimpser(features=16, locations=9, classes=10)
    model = HardAttention(glimpser, STEPS, ROWS)
    program = Program(model, Looker(glimpser, 16, STEPS, ROWS))
    batch = {"a": torch.randn(ROWS, 9, 16), "y": torch.randint(10, (ROWS,))}
    estimators = {
        "ScoreFunction(MovingAverage)": ScoreFunction(baseline=MovingAverage()),
        "Trace_ELBO": Trace_ELBO(),
        "TraceGraph_ELBO": TraceGraph_ELBO(),
    }
    times: dict[str, list[float]] = {name: [] for name in estimators}
    with program.scope():
        program.initialise(batch, ROWS)
        for block in range(BLOCKS + 2):
            for name, estimator in estimators.items():
                for parameter in program.parameters.values():
                    parameter.grad = None
                began = time.perf_counter()
                backward(estimator, program, batch)
                if block >= 2:  # the first are slow
                    times[name].append(time.perf_counter() - began)
    report(times)


def report(times: dict[str, list[float]]) -> None:
    """Milliseconds, and the median ratio of ScoreFunction to the others, block by block."""
    table = Table("estimator", "ms", "ours / its", title=f"{STEPS} one-hot sites in sequence")
    ours = times["ScoreFunction(MovingAverage)"]
    results = {}
    for name, theirs in times.items():
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        results[name] = {"milliseconds": 1e3 * statistics.median(theirs), "ratio": ratio}
        table.add_row(name, f"{results[name]['milliseconds']:.1f}", f"{ratio:.2f}")
    Console().print(table)
    path = Path("runs/bench/sites.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
