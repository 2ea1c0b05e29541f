"""What a deconvolutional model learned: dictionaries, reconstructions, places, new images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pyro import poutine
from torch import Tensor

from inference.data.columns import Columns
from inference.engine.program.program import Program
from inference.engine.training.validation import EVALUATION_SEED
from inference.results import plots
from inference.util import rng
from ppl_models.deconvolutional import Deconvolutional
from ppl_models.unpooling import tiled

SHOWN = 8  # images in a picture
ELEMENTS = 40  # of a dictionary


def draw_all(program: Program, judged: Columns, directory: Path) -> None:
    """``dictionaries.png``, ``reconstructions.png``, ``unpooling.png`` and ``samples.png``."""
    x = judged.tensors["x"][:SHOWN]
    model: Any = program.model
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation(), torch.no_grad():
        draws = poutine.trace(program.guide).get_trace(x)
        with poutine.block():
            means = poutine.replay(model, trace=draws)(x)
            fresh = model(x.new_zeros(8 * SHOWN, *x.shape[1:]))
        parts = [elements(model, top) for top in range(len(model.levels))]
    dictionaries(parts, directory / "dictionaries.png")
    rows({"image": x, "mean of X given a draw": means}, directory / "reconstructions.png")
    if "z_1" in draws.nodes:
        q: Any = draws.nodes["z_1"]["fn"]
        unpooling(x, q.mean, model, directory / "unpooling.png")
    grid(fresh, directory / "samples.png")


def elements(model: Deconvolutional, top: int) -> Tensor:
    """(≤ ELEMENTS, C, h, w) what each element of a layer puts into an image, at central places."""
    maps = model.dictionaries[top][:ELEMENTS].detach()
    for number in range(top - 1, -1, -1):
        side = model.levels[number].layer.pool
        centre = torch.zeros(side**2).to(maps)
        centre[side**2 // 2] = 1
        maps = tiled(maps.unsqueeze(-1) * centre, side) if side > 1 else maps
        maps = torch.nn.functional.conv_transpose2d(maps, model.dictionaries[number].detach())
    return maps


def dictionaries(parts: list[Tensor], path: Path) -> None:
    """A block of elements for each layer, the first below."""
    figure = Figure(figsize=(9, 1.4 * len(parts)), layout="constrained")
    axes = figure.subplots(len(parts), 1, squeeze=False)[::-1, 0]
    for number, (axis, part) in enumerate(zip(axes, parts, strict=True), start=1):
        largest = part.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
        show(axis, mosaic((part / largest + 1) / 2, ELEMENTS // 2))
        axis.set_title(f"layer {number}: what an element puts into an image", fontsize=9)
    plots.save(figure, path)


def rows(named: dict[str, Tensor], path: Path) -> None:
    """A row of images for each name."""
    figure = Figure(figsize=(9, 1.5 * len(named)), layout="constrained")
    axes = figure.subplots(len(named), 1, squeeze=False)[:, 0]
    for axis, (name, images) in zip(axes, named.items(), strict=True):
        show(axis, mosaic(visible(images), len(images)))
        axis.set_title(name, fontsize=9)
    plots.save(figure, path)


def grid(images: Tensor, path: Path) -> None:
    """Images drawn from the model: s and z from the prior."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axis = figure.subplots()
    show(axis, mosaic(visible(images), SHOWN))
    axis.set_title("means of X, s and z from the prior", fontsize=9)
    plots.save(figure, path)


def unpooling(x: Tensor, probs: Tensor, model: Deconvolutional, path: Path) -> None:
    """Beside each image, for three maps, q(z) of each place in its block."""
    side = model.levels[0].layer.pool
    sure = probs.amax(-1).mean((0, 2, 3))  # (K,)
    chosen = sure.topk(min(3, len(sure))).indices
    maps = tiled(probs, side)[:, chosen]  # (B, 3, H, W)
    figure = Figure(figsize=(1.5 * len(x), 1.6 * (1 + len(chosen))), layout="constrained")
    axes = figure.subplots(1 + len(chosen), len(x), squeeze=False)
    shown = visible(x)
    for b in range(len(x)):
        show(axes[0, b], mosaic(shown[b : b + 1], 1))
        for row, k in enumerate(chosen.tolist()):
            axis = axes[row + 1, b]
            axis.imshow(maps[b, row].cpu().numpy(), cmap="magma", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.hlines(np.arange(side, maps.shape[-2], side) - 0.5, *axis.get_xlim(), lw=0.3)
            axis.vlines(np.arange(side, maps.shape[-1], side) - 0.5, *axis.get_ylim(), lw=0.3)
            axis.set_ylabel(f"element {k}" if b == 0 else "", fontsize=8)
    plots.save(figure, path)


def visible(images: Tensor) -> Tensor:
    """(N, C, H, W) in [0, 1]; colours, which are kept less their mean, around grey."""
    return (images + 0.5 * (images.shape[1] > 1)).clamp(0, 1)


def mosaic(images: Tensor, columns: int) -> np.ndarray:
    """Images (N, C, h, w) side by side, a pixel apart: (H, W) or (H, W, 3)."""
    gap = int(len(images) > 1)
    pad = torch.nn.functional.pad(images, (0, gap, 0, gap), value=1.0)
    lacking = -len(pad) % columns
    pad = torch.cat([pad, pad.new_ones(lacking, *pad.shape[1:])])
    lines = pad.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2)
    pixels = lines.cpu().numpy()
    return pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(0)


def show(axis: Axes, pixels: np.ndarray) -> None:
    """A picture without ticks."""
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
