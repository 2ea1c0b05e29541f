"""Hard attention to patches of a digit: a small program with a sequence of discrete latents.

lowerbound fit attention --estimator LeaveOneOut --particles 4
lowerbound audit attention --at 0 300
"""

from __future__ import annotations

import torch
from pyro.distributions import Categorical

from guides.hard_attention import Looker
from inference.data.columns import Columns
from inference.data.sources import load_splits
from inference.data.values import labelled_images
from inference.recipes.contract import Figures, Recipe
from inference.recipes.images.options import AttentionOptions as Options
from inference.results import evaluate
from inference.results.run import Run
from inference.util.errors import UserError
from ppl_models.hard_attention import Glimpser, PatchAttention


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    splits = load_splits(options.data, options.range)
    train, valid, test = (
        patches(split, options.patch) for split in (splits.train, splits.valid, splits.test)
    )
    _, locations, features = train.tensors["a"].shape
    classes = 1 + max(int(part.tensors["y"].max()) for part in (train, valid, test))
    glimpser = Glimpser(features, locations, classes)
    steps, size = options.steps_of_attention, len(train)
    return Recipe(
        model=PatchAttention(glimpser, steps, size),
        guide=Looker(glimpser, features, steps, size),
        train=train,
        valid=valid,
        report=lambda run: report(run, test, steps),
    )


def patches(images: Columns, side: int) -> Columns:
    """Images (N, C, H, W) as columns a (N, locations, C · side²) and y.

    Raises:
        UserError: the data are no labelled images, or smaller than a patch.
    """
    x, y = labelled_images("attention", images.tensors)
    if side > min(x.shape[2:]):
        height, width = x.shape[2:]
        raise UserError(f"--patch is {side}: give at most the {height} × {width} of an image")
    tiles = x.unfold(2, side, side).unfold(3, side, side).movedim(1, 3)
    return Columns({"a": tiles.flatten(3).flatten(1, 2), "y": y})


def report(run: Run, test: Columns, steps: int) -> Figures:
    """The test bound over all T labels, and the accuracy of the last one."""
    test, program = run.place(test), run.programs[0]
    with program.scope(), torch.no_grad():
        trace, _ = program.traces(test.rows(None))
    last = trace.nodes[f"y{steps - 1}"]["fn"]
    assert isinstance(last, Categorical)
    right = last.logits.argmax(-1) == test.tensors["y"]
    return {
        "test ELBO": evaluate.importance_weighted_bound(program, test, 1),
        "test accuracy after the last look": right.double(),
    }
