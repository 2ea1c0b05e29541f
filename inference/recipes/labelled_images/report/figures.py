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
from inference.results.report import Estimate
from inference.results.run import Run
from inference.util import rng

AT_ONCE = 500  # images


def report(run: Run, judged: Columns, draws: int) -> Figures:
    """Errors of each seed's mean code and averaged over q, the image's bound; four pictures."""
    judged = run.place(judged)
    y = judged.tensors["y"]
    found: dict[str, list[Tensor]] = {"mean code": [], f"mean of {draws} draws": []}
    for program in run.programs:
        for name, wrong in zip(found, wrongs(program, judged, draws), strict=True):
            found[name].append(100 * wrong)
    figures: Figures = {
        f"error %, {name}": Estimate.of(torch.stack(each).mean(0)) for name, each in found.items()
    }
    if len(run.programs) > 1:
        for name, each in found.items():
            figures[f"error %, {name}, spread over seeds"] = float(torch.stack(each).mean(1).std())
    figures["ELBO of the image"] = image_bound(run.programs[0], judged)
    model: Any = run.programs[0].model
    figures["scale of a pixel"] = float((-model.log_precision / 2).exp().detach())
    figures["images"] = float(len(y))
    if run.directory is not None:
        pictures.draw_all(run.programs[0], judged, run.directory)
    return figures


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
    """Errors of q(y | x)."""
    judged = run.place(judged)
    each = []
    for program in run.programs:
        model: Any = program.model
        with program.scope(), program.evaluation(), torch.no_grad():
            said = model.classifier(judged.tensors["x"]).argmax(-1)
        each.append(100 * (said != judged.tensors["y"]).double().cpu())
    figures: Figures = {"error %": Estimate.of(torch.stack(each).mean(0))}
    if len(each) > 1:
        figures["error %, spread over seeds"] = float(torch.stack(each).mean(1).std())
    figures["images"] = float(len(judged))
    return figures
