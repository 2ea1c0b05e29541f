"""Recurrent attention (Mnih et al. 2014, Ba et al. 2014): glimpses of an image, then its label.

lowerbound fit glimpses --data mnist --looks 6
lowerbound fit glimpses --data pairs --network dram --looks 4 --glimpse 12 --scales 2
"""

from __future__ import annotations

from pathlib import Path

from guides.label_aware import LabelAware
from guides.prior import Prior
from inference.data.columns import Columns
from inference.data.sources import Range, Splits, load_splits
from inference.data.values import labelled_images
from inference.recipes.contract import Recipe
from inference.recipes.glimpses.data.canvas import TASKS, Task, fixed
from inference.recipes.glimpses.data.house_numbers import house_numbers
from inference.recipes.glimpses.options import GlimpsesOptions as Options
from inference.recipes.glimpses.problem import Problem, program
from inference.recipes.glimpses.report.figures import report
from inference.recipes.named_estimators import named_baseline

VALID_SEED, TEST_SEED = 1, 2  # of the canvases that are the same at every call


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    (train, valid, test), problem = prepared(options.data, options.range)
    model = program(options, problem, len(train))
    guide = LabelAware(model, problem.classes) if options.guide == "label" else Prior(model)
    return Recipe(
        model,
        guide,
        train,
        valid,
        baseline=named_baseline(options, problem.image[1], lambda x, y: x.mean((1, 3))),
        report=lambda run: report(run, options, problem, test),
    )


def prepared(data: str, range: Range | None = None) -> tuple[list[Columns], Problem]:
    """Train, valid and test columns x and y; canvases are drawn anew in training, else fixed."""
    task = TASKS.get(data)
    splits = found(data, task, range)
    parts = [labelled(part) for part in (splits.train, splits.valid, splits.test)]
    if task is None:
        _, channels, height, width = parts[0].tensors["x"].shape
        classes = 1 + max(int(part.tensors["y"].max()) for part in parts)
        return parts, Problem((channels, height, width), classes)
    train, valid, test = parts
    columns = [
        Columns(train.tensors, task),
        fixed(valid, task, VALID_SEED),
        fixed(test, task, TEST_SEED),
    ]
    return columns, Problem((1, task.height, task.width), task.classes, task.targets, task.end)


def found(data: str, task: Task | None, range: Range | None = None) -> Splits:
    """The labelled images that the data are, or are made of."""
    if task is not None:
        return load_splits("mnist")
    if data.startswith("svhn:"):
        return house_numbers(Path(data.removeprefix("svhn:")))
    return load_splits(data, range)


def labelled(images: Columns) -> Columns:
    """Columns x (N, C, H, W) and y (N,).

    Raises:
        UserError: the data are no labelled images.
    """
    x, y = labelled_images("the recipe glimpses", images.tensors)
    return Columns({"x": x, "y": y})
