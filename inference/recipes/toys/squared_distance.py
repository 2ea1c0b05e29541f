"""The toy of REBAR and RELAX: minimise E[(b − t)²], b ~ Bernoulli(θ), under five estimators.

Tucker et al. 2017; Grathwohl et al. 2018.

lowerbound fit squared_distance --target 0.499
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from inference.estimators import REBAR, RELAX, DisARM, Estimator, LeaveOneOut, ScoreFunction
from inference.recipes.contract import Figures, Recipe
from inference.recipes.toys.gradients import one_draw_gradients
from inference.recipes.toys.options import SquaredDistanceOptions as Options
from inference.results import plots
from inference.results.run import Run
from inference.util import rng
from ppl_models.toys import SquaredDistance, SquaredDistanceGuide

COPIES = 1000


def build(options: Options) -> Recipe:
    """The program; its data are one draw a step."""
    return Recipe(
        SquaredDistance(options.target),
        SquaredDistanceGuide(),
        {"x": torch.zeros(1)},
        report=lambda run: report(run, options),
    )


def report(run: Run, options: Options) -> Figures:
    """The θ found; each estimator's variance of one gradient in the last tenth of training."""
    best = min(options.target**2, (1 - options.target) ** 2)
    with rng.forked(0):
        courses = {name: course(estimator, options) for name, estimator in estimators().items()}
    if run.directory is not None:
        curves(courses, best, run.directory / "gradients.png")
    theta = torch.sigmoid(run.params["guide.logit"])
    last = -max(1, options.epochs // 10)
    figures: Figures = {
        f"variance, {name}": f"{variances[last:].mean():.1e}"
        for name, (_, variances) in courses.items()
    }
    cost = float(expected_cost(theta, options.target))
    return {"θ": float(theta), "E[(b − t)²]": cost, "its least": best, **figures}


def estimators() -> dict[str, Estimator]:
    """The five estimators by their names in the plot's legend."""
    one_by_one = nn.Unflatten(-1, (-1, 1))
    surrogate = nn.Sequential(one_by_one, nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1))
    return {
        "score function": ScoreFunction(),
        "leave-one-out, 2 draws": LeaveOneOut(2),
        "REBAR": REBAR(),
        "RELAX": RELAX(surrogate),
        "DisARM": DisARM(),
    }


def course(estimator: Estimator, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """(steps,) expected cost and variance of one gradient, means over trainings side by side.

    Each training uses one gradient a step; half the squared difference to a second gradient at the
    same θ estimates its variance.  The trainings share the estimator's own parameters and averages,
    which therefore adapt faster than in a single training.
    """
    model, guide = SquaredDistance(options.target), SquaredDistanceGuide()
    guide.logit = nn.Parameter(torch.zeros(COPIES))
    optimizer = torch.optim.Adam([guide.logit], lr=options.learning_rate)
    optimizer.add_param_group({"params": list(estimator.parameters()), "lr": 0.01})
    costs, variances = [], []
    for _ in range(options.epochs):
        optimizer.zero_grad()
        one, other = (one_draw_gradients(estimator, model, guide, guide.logit) for _ in range(2))
        costs.append(expected_cost(torch.sigmoid(guide.logit.detach()), options.target).mean())
        variances.append((one - other).square().mean() / 2)
        guide.logit.grad = one
        optimizer.step()
    return torch.stack(costs).numpy(), torch.stack(variances).numpy()


def expected_cost(theta: Tensor, target: float) -> Tensor:
    """E[(b − t)²] at each θ."""
    return theta * (1 - target) ** 2 + (1 - theta) * target**2


def curves(courses: Mapping[str, tuple[np.ndarray, np.ndarray]], best: float, file: Path) -> None:
    """Cost, and variance of one gradient, against steps."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (costs, variances) in courses.items():
        left.plot(costs, lw=1.5)
        some = np.where(variances > 0, variances, np.nan)  # DisARM's is 0 at θ = ½
        right.plot(plots.smooth(some[None])[0], lw=1.5, label=name)
    left.axhline(best, color="k", lw=1, ls=":")
    left.margins(y=0.1)
    left.set(xlabel="step", title="expected cost E[(b − t)²]; dotted: its least")
    right.set(xlabel="step", title="variance of one gradient", yscale="log")
    figure.legend(loc="outside right upper", frameon=False)
    plots.save(figure, file)
