"""The slides' toy: minimise E[z²], z ~ N(aθ + b, 1), by score function and by reparameterisation.

lowerbound fit expected_square --estimator Pathwise
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.recipes.contract import EstimatorName, Recipe, Training
from inference.recipes.toys.gradients import one_draw_gradients

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from inference.results.run import Run

DRAWS = 100_000


@dataclass(frozen=True)
class Options(Training):
    """The toy E[z²] with μ = aθ + b; a picture of both ways' gradients at the start."""

    theta: float = 0.4
    """θ at the start; its optimum is −b/a."""
    a: float = 2.0
    """Slope of μ."""
    b: float = 3.0
    """Offset of μ."""
    estimator: EstimatorName = "Pathwise"
    """ScoreFunction takes the draw as not reparameterised."""
    epochs: int = 200
    """Steps: each sees all draws."""
    batch_size: int | None = None
    """Draws a step are those of the one batch."""
    learning_rate: float = 0.02
    """Of Adam."""


def build(options: Options) -> Recipe:
    """The program, and sixteen draws a step as its data."""
    import torch

    from ppl_models.toys import ExpectedSquare, ExpectedSquareGuide

    return Recipe(
        ExpectedSquare(),
        ExpectedSquareGuide(
            options.theta,
            options.a,
            options.b,
            reparameterised=options.estimator not in ("ScoreFunction", "LeaveOneOut", "VIMCO"),
        ),
        {"x": torch.zeros(16)},
        report=lambda run: report(run, options),
    )


def report(run: Run, options: Options) -> dict[str, Any]:
    """The θ found, and at the start the mean and variance of one gradient, beside the formulas."""
    mu = options.a * options.theta + options.b
    score, path = (
        gradients(options, reparameterised=False),
        gradients(options, reparameterised=True),
    )
    if run.directory is not None:
        histogram(score, path, 2 * options.a * mu, run.directory / "gradients.png")
    return {
        "θ, to be −b/a": float(run.params["guide.theta"]),
        "gradient 2aμ": 2 * options.a * mu,
        "score function, mean": score,
        "reparameterised, mean": path,
        "variance, score function": float(score.var()),
        "a²(μ⁴ + 14μ² + 15)": options.a**2 * (mu**4 + 14 * mu**2 + 15),
        "variance, reparameterised": float(path.var()),
        "4a²": 4 * options.a**2,
    }


def gradients(options: Options, *, reparameterised: bool) -> Tensor:
    """(DRAWS,) gradients of E[z²] in θ, one draw each."""
    import torch
    from torch import nn

    from inference.estimators import Pathwise, ScoreFunction
    from ppl_models.toys import ExpectedSquare, ExpectedSquareGuide

    guide = ExpectedSquareGuide(
        options.theta, options.a, options.b, reparameterised=reparameterised
    )
    guide.theta = nn.Parameter(torch.full((DRAWS,), options.theta))  # each draw has its own
    estimator = Pathwise() if reparameterised else ScoreFunction()
    return one_draw_gradients(estimator, ExpectedSquare(), guide, guide.theta)


def histogram(score: Tensor, path: Tensor, exact: float, file: Path) -> None:
    """Both ways' gradients on one axis; the middle 98 % of the wider."""
    from matplotlib.figure import Figure

    from inference.results import plots

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axis = figure.subplots()
    low, high = float(score.quantile(0.01)), float(score.quantile(0.99))
    for values, name in ((score, "score function"), (path, "reparameterised")):
        label = f"{name}: variance {float(values.var()):.0f}"
        axis.hist(values.numpy(), bins=200, range=(low, high), density=True, alpha=0.6, label=label)
    axis.axvline(exact, color="k", lw=1, label=f"2aμ = {exact:.1f}")
    axis.set(xlabel="gradient of E[z²] in θ from one draw", ylabel="density", yscale="log")
    axis.legend(frameon=False)
    plots.save(figure, file)
