"""Plots: ELBO traces, reconstructions and samples of an image model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor

from inference.engine.program.program import Program
from inference.engine.training.validation import EVALUATION_SEED
from inference.util import rng
from inference.util.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def elbo(tree: xr.DataTree, path: str | Path) -> None:
    """Plot the ELBO of each seed, its held-out values, and the named terms."""
    svi = tree["svi"].to_dataset()
    terms = [str(n) for n in svi if str(n).startswith(("kl_", "log_likelihood_"))]
    figure = Figure(figsize=(4.5 * (1 + len(terms)), 3.5), layout="constrained")
    axes = figure.subplots(1, 1 + len(terms), squeeze=False)[0]
    for axis, name in zip(axes, ["elbo", *terms], strict=True):
        band(axis, svi["step"].to_numpy(), smooth(svi[name].to_numpy()), "training")
        axis.set(title=name, xlabel="step", ylabel="nats per datum")
    shown = svi["elbo"].to_numpy()
    if "held_out" in tree.children:
        held_out = tree["held_out"].to_dataset()
        band(axes[0], held_out["step"].to_numpy(), held_out["elbo"].to_numpy(), "held out")
        shown = np.append(shown, np.nanmax(held_out["elbo"].to_numpy()))
    focus(axes[0], shown)
    axes[0].legend(frameon=False)
    save(figure, path)


def band(axis: Axes, x: np.ndarray, values: np.ndarray, label: str) -> None:
    """Plot the mean over seeds (seed, step) as a line, minimum to maximum as a band."""
    alive = np.isfinite(values).any(0)
    x, values = x[alive], values[:, alive]
    (line,) = axis.plot(x, np.nanmean(values, 0), label=label, lw=1.5)
    if len(values) > 1:
        low, high = np.nanmin(values, 0), np.nanmax(values, 0)
        axis.fill_between(x, low, high, alpha=0.25, color=line.get_color(), lw=0)


def smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over about a hundredth of the steps; (seed, step) in and out."""
    width = max(1, values.shape[1] // 100)
    total = np.nancumsum(values, axis=1)
    total[:, width:] = total[:, width:] - total[:, :-width]
    divisor = np.minimum(np.arange(values.shape[1]) + 1, width)
    return np.where(np.isfinite(values), total / divisor, np.nan)


def focus(axis: Axes, values: np.ndarray) -> None:
    """Limit the y axis to the values after the first steep rise."""
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, 0.1), finite.max()
    if low == high:
        return
    axis.set_ylim(low - 0.3 * (high - low), high + 0.1 * (high - low))


def reconstructions(program: Program, x: Tensor, path: Path) -> None:
    """Plot images x (N, C, H, W) above E[x | z] at one draw z of the guide."""
    with rng.forked(EVALUATION_SEED), program.scope(), torch.no_grad():
        mean = program.model.mean(program.guide(x))  # type: ignore[attr-defined]
    figure = Figure(figsize=(len(x), 2.3), layout="constrained")
    axes = figure.subplots(2, len(x))
    for column, pair in enumerate(zip(x, mean, strict=True)):
        for row, image in enumerate(pair):
            show(axes[row, column], image)
    figure.suptitle("data above, reconstruction below", fontsize=9)
    save(figure, path)


def samples(model: Any, count: int, path: Path) -> None:
    """Plot E[x | z] at ``count`` draws z of the prior, in a square grid."""
    side = int(count**0.5)
    with rng.forked(EVALUATION_SEED), torch.no_grad():
        like = next(model.parameters())
        images = model.mean(like.new_empty(side * side, model.latent_dim).normal_())
    figure = Figure(figsize=(5, 5), layout="constrained")
    for axis, image in zip(figure.subplots(side, side).flat, images, strict=True):
        show(axis, image)
    save(figure, path)


def show(axis: Axes, image: Tensor) -> None:
    """Show one image (C, H, W) in [0, 1] without ticks."""
    pixels = image.detach().cpu().clamp(0, 1)
    axis.set_axis_off()
    if len(pixels) == 3:
        axis.imshow(pixels.movedim(0, -1).numpy())
    else:
        axis.imshow(pixels[0].numpy(), cmap="gray_r", vmin=0, vmax=1)


def save(figure: Figure, path: str | Path) -> None:
    """Write a picture of the kind that the path ends on, atomically."""
    with replacing(Path(path)) as beside:
        figure.savefig(beside, dpi=120)
