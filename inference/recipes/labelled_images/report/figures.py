"""What a model of labelled images is worth: errors, the bound, and pictures."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.data.columns import Columns, slices
from inference.engine.program.program import Program
from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.contract import Figures
from inference.recipes.labelled_images.report import pictures
from inference.results import evaluate
from inference.results.report import over_seeds
from inference.results.run import Run
from inference.util import rng

AT_ONCE = 500  # images


def report(run: Run, judged: Columns, draws: int) -> Figures:
    """Errors of the mean code and averaged over q, the bound, means over seeds; four pictures."""
    judged = run.place(judged)
    figures = over_seeds([figures_of(program, judged, draws) for program in run.programs])
    figures["images"] = float(len(judged))
    if run.directory is not None:
        pictures.draw_all(run.programs[0], judged, run.directory)
    return figures


def figures_of(program: Program, judged: Columns, draws: int) -> Figures:
    """Those of one seed."""
    certain, averaged = wrongs(program, judged, draws)
    model: Any = program.model
    return {
        "error %, mean code": 100 * certain,
        f"error %, mean of {draws} draws": 100 * averaged,
        "ELBO of the image": image_bound(program, judged),
        "scale of a pixel": float((-model.log_precision / 2).exp().detach()),
    }


def image_bound(program: Program, judged: Columns) -> Tensor:
    """(N,) the bound of log p(X), one draw each; no label is read."""
    return evaluate.importance_weighted_bound(program, judged.select(("x",)), 1)


def wrongs(program: Program, judged: Columns, draws: int) -> tuple[Tensor, Tensor]:
    """(N,) 1 where the label is not said: of the mean code, and averaged over draws of q."""
    model: Any = program.model
    parts = []
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation(), torch.no_grad():
        for rows in slices(len(judged), AT_ONCE):
            x, y = judged.tensors["x"][rows], judged.tensors["y"][rows]
            certain = model.head.beliefs(mean_code(program.guide, x))
            drawn = torch.stack([model.head.beliefs(program.guide(x)) for _ in range(draws)])
            parts.append(torch.stack([b.argmax(-1) != y for b in (certain, drawn.mean(0))]))
    first, second = torch.cat(parts, 1).double().cpu()
    return first, second


def mean_code(guide: Any, x: Tensor) -> Tensor:
    """(B, D) the mean of q(s | X, E z): each block read at its expected place."""
    with poutine.block(), Expected():  # the inner is asked first; block answers for all outside
        return guide(x)


class Expected(Messenger):
    """Latents take their mean; of a one-hot site, its probabilities (Zeiler & Fergus 2013)."""

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and msg["value"] is None:
            msg["value"], msg["done"] = msg["fn"].mean, True


def report_m2(run: Run, judged: Columns) -> Figures:
    """Errors of q(y | x), the mean over seeds."""
    judged = run.place(judged)
    figures = over_seeds([{"error %": wrong(program, judged)} for program in run.programs])
    figures["images"] = float(len(judged))
    return figures


def wrong(program: Program, judged: Columns) -> Tensor:
    """(N,) 100 where q(y | x) says another label."""
    model: Any = program.model
    with program.scope(), program.evaluation(), torch.no_grad():
        said = model.classifier(judged.tensors["x"]).argmax(-1)
    return 100 * (said != judged.tensors["y"]).double().cpu()
