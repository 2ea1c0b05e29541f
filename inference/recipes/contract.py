"""What a recipe is: a dataclass ``Options`` of flags and a function ``build(options) -> Recipe``.

This module and the top of every recipe import nothing heavy, so that ``--help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pyro.infer import ELBO

    from inference.engine.training.loop import OptimizerFactory
    from inference.results.run import Run

EstimatorName = Literal[
    "Trace_ELBO",
    "TraceMeanField_ELBO",
    "TraceGraph_ELBO",
    "TraceEnum_ELBO",
    "DecayingAverage",
    "Pathwise",
    "ScoreFunction",
    "LeaveOneOut",
    "ARM",
    "DisARM",
    "REBAR",
    "GumbelSoftmax",
    "IWAE",
    "DReG",
    "VIMCO",
    "ReweightedWakeSleep",
]


@dataclass(frozen=True)
class Training:
    """How to train; every recipe's ``Options`` inherits these flags and may change defaults."""

    epochs: int = 20
    """Passes over the training data."""
    batch_size: int | None = 128
    """Rows a step; None for all of them."""
    learning_rate: float = 1e-3
    """Of Adam, at its largest."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate's course."""
    estimator: EstimatorName = "Trace_ELBO"
    """Gradient estimator, one of Pyro's (…_ELBO) or of inference.estimators."""
    particles: int = 1
    """Draws from the guide a step."""
    anneal: float = 0.0
    """Share of training over which the weight of the KL grows from 0 to 1."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient."""
    patience: int | None = None
    """Stop after so many epochs without a better held-out bound, and keep the best."""
    seeds: int = 1
    """Trainings from different initial values and noise."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    precision: Literal["float32", "float64", "bf16-mixed"] = "float32"
    """Floating type."""
    compile: bool = False
    """Capture the step as a graph and compile it: the same numbers, faster after a minute."""
    seeds_at_once: bool = False
    """With --compile: train all seeds as one vectorised program."""
    out: Path | None = None
    """The run's directory [runs/RECIPE]."""
    resume: bool = False
    """Go on with the fit that the directory holds, if any; it must be the same one."""
    overwrite: bool = False
    """Replace the fit that the directory holds."""


def no_report(run: Run) -> dict[str, Any]:
    """Nothing but the trace."""
    return {}


@dataclass(frozen=True)
class Recipe:
    """A program with its data, ready to fit.

    Attributes:
        model, guide: Pyro programs.
        train, valid: columns to fit and (if any) to watch.
        estimator, optimizer: as ``fit`` takes them; None for what the options say.
        report: run → figures by name, after training; may draw pictures into ``run.directory``
            and add groups to ``run.trace``.
    """

    model: Callable
    guide: Callable
    train: Any
    valid: Any = None
    estimator: ELBO | None = None
    optimizer: OptimizerFactory | None = None
    report: Callable[[Run], dict[str, Any]] = field(default=no_report)
