"""What trained glimpses are worth: errors, bounds, calibration, and pictures of the looks."""

from __future__ import annotations

import copy
from pathlib import Path

import pyro
import torch
from torch import Tensor

from guides.prior import Prior
from inference.data.columns import Columns, slices
from inference.engine.program.program import Program
from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.contract import Figures
from inference.recipes.glimpses.options import GlimpsesOptions
from inference.recipes.glimpses.problem import Problem
from inference.recipes.glimpses.report import pictures
from inference.results import evaluate
from inference.results.report import over_seeds
from inference.results.run import Run
from inference.util import rng
from inference.util.files import write_json
from ppl_models.glimpses import Glimpses, Look
from ppl_models.places import OnGrid

AT_ONCE = 250  # images
BINS = 15  # of the calibration error
ENUMERATED = 1000  # walks over an image
SHOWN = 8  # images in the picture of looks


def report(run: Run, options: GlimpsesOptions, problem: Problem, test: Columns) -> Figures:
    """Figures on the test images, the mean over seeds; two pictures of the first's looks."""
    test, draws = run.place(test), options.test_samples
    figures = over_seeds(
        [
            {**mistakes(program, test, draws, problem.end), **bounds(program, test, draws)}
            for program in run.programs
        ]
    )
    if run.directory is not None:
        write_json(run.directory / "problem.json", problem._asdict())
        draw(run.programs[0], test, options.glimpse, run.directory)
    return figures


def mistakes(program: Program, test: Columns, draws: int, end: int | None) -> Figures:
    """Errors with one run over an image and averaged over K, and calibration."""
    probabilities = predictions(program, test, draws)
    y = test.tensors["y"].reshape(len(test), -1).cpu()
    counted = said(y, end)
    averaged = probabilities.mean(0)
    return {
        "test error %, one run": 100 * errors(probabilities, y, counted).mean(0),
        f"test error %, mean of {draws} runs": 100 * errors(averaged, y, counted),
        "test calibration error %": 100 * calibration_error(averaged[counted], y[counted]),
    }


def bounds(program: Program, test: Columns, draws: int) -> Figures:
    """Lower bounds of log p(y | I) in ascending order, and itself where looks can be enumerated."""
    found: Figures = {}
    if not isinstance(program.guide, Prior):
        by_prior = copy.copy(program)
        by_prior.guide = Prior(program.model)
        found["test E log p(y | l, I), l ~ p"] = evaluate.importance_weighted_bound(
            by_prior, test, 1
        )
    for name, count in {"ELBO": 1, f"L_{draws}": draws}.items():
        found[f"test {name}"] = evaluate.importance_weighted_bound(program, test, count)
    model = glimpses(program)
    walks = model.places.dims ** (model.looks * model.targets)
    if isinstance(model.places, OnGrid) and walks <= ENUMERATED:
        found["test log p(y | I)"] = evaluate.exact_evidence(program, test, AT_ONCE)
    return found


def draw(program: Program, test: Columns, side: int, directory: Path) -> None:
    """``looks.png``, walks over the first test images, and ``look.gif``, one of them."""
    batch, model = test.rows(slice(0, SHOWN)), glimpses(program)
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation():
        found = pictures.walks(model, batch["x"])
    names = [label(row) for row in batch["y"].reshape(len(batch["y"]), -1).tolist()]
    pictures.draw(found, names, side, directory / "looks.png")
    pictures.animate(found[0], side, directory / "look.gif")


def label(classes: list[int]) -> str:
    """The classes of one image, to be read beside it."""
    return "shows " + " ".join(map(str, classes))


def predictions(program: Program, test: Columns, draws: int) -> Tensor:
    """(draws, N, S, classes) p(y | l, I) of each target after its last look, l from the prior."""
    parts, model = [], glimpses(program)
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation(), torch.no_grad():
        for rows in slices(len(test), AT_ONCE):
            with pyro.plate("draws", draws, dim=-2):
                looks = model(test.rows(rows)["x"])
            parts.append(predicted(model, looks).movedim(0, 2).cpu())
    return torch.cat(parts, 1)


def predicted(model: Glimpses, looks: list[Look]) -> Tensor:
    """(S, …, classes) p(y | l, I) of each target after the last look at it."""
    last = looks[model.looks - 1 :: model.looks]
    return torch.stack([look.logits for look in last]).softmax(-1)


def glimpses(program: Program) -> Glimpses:
    """The model of the program."""
    assert isinstance(program.model, Glimpses)
    return program.model


def said(y: Tensor, end: int | None) -> Tensor:
    """(N, S) whether a target is said: not after the end of its sequence."""
    if end is None:
        return torch.ones_like(y, dtype=torch.bool)
    before = torch.cat([torch.zeros_like(y[:, :1]), (y == end).cumsum(1)[:, :-1]], 1)
    return before == 0


def errors(probabilities: Tensor, y: Tensor, counted: Tensor) -> Tensor:
    """(…, N) 1 where any target that counts is not the most probable class, else 0."""
    wrong = (probabilities.argmax(-1) != y) & counted
    return wrong.any(-1).double()


def calibration_error(probabilities: Tensor, y: Tensor) -> float:
    """Expected calibration error: |confidence − accuracy| of ``BINS`` equal bins, by their share.

    Guo et al. 2017, equation 3.
    """
    confidence, chosen = probabilities.max(-1)
    right = (chosen == y).double()
    at = (confidence * BINS).long().clamp(max=BINS - 1)
    gaps = torch.zeros(BINS, dtype=torch.double).index_add(0, at, confidence.double() - right)
    return float(gaps.abs().sum() / len(y))
