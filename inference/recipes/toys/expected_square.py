"""Minimise E[z²], z ~ N(aθ + b, 1), by score function and by reparameterisation.

A common toy problem (Mohamed et al. 2020, *Monte Carlo gradient estimation*, section 3): all
moments of both gradients are known.

lowerbound fit expected_square --estimator Pathwise
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from inference.estimators import Pathwise, ScoreFunction
from inference.recipes.contract import Figures, Recipe
from inference.recipes.toys.gradients import one_draw_gradients
from inference.recipes.toys.options import ExpectedSquareOptions as Options
from inference.results import plots
from inference.results.run import Run
from ppl_models.toys import ExpectedSquare, ExpectedSquareGuide

DRAWS = 100_000
WITHOUT_PATH = ("ScoreFunction", "LeaveOneOut", "VIMCO")


def build(options: Options) -> Recipe:
    """The program; its data are sixteen draws a step."""
    return Recipe(
        ExpectedSquare(),
        initial_guide(options, reparameterised=options.estimator not in WITHOUT_PATH),
        {"x": torch.zeros(16)},
        report=lambda run: report(run, options),
    )


def initial_guide(options: Options, *, reparameterised: bool) -> ExpectedSquareGuide:
    """The guide with the options' initial θ, a and b."""
    return ExpectedSquareGuide(options.theta, options.a, options.b, reparameterised=reparameterised)


def report(run: Run, options: Options) -> Figures:
    """The θ found; mean and variance of one gradient at the initial θ, beside the formulas."""
    mu = options.a * options.theta + options.b
    score, path = (gradients(options, reparameterised=by_path) for by_path in (False, True))
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
    q = initial_guide(options, reparameterised=reparameterised)
    q.theta = nn.Parameter(torch.full((DRAWS,), options.theta))  # one θ for each draw
    estimator = Pathwise() if reparameterised else ScoreFunction()
    return one_draw_gradients(estimator, ExpectedSquare(), q, q.theta)


def histogram(score: Tensor, path: Tensor, exact: float, file: Path) -> None:
    """Histograms of both gradients, over the middle 98 % of the wider one."""
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
