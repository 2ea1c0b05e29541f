"""Where glimpses went: paths over images, what the retina saw, and what was believed after each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from inference.results import plots
from inference.util.files import replacing
from ppl_models.glimpses import Glimpses

COLOURS = LinearSegmentedColormap.from_list("looks", ["#00b7c3", "#ff7a00"])  # first to last
FRAMES = 2  # looks shown a second


class Walk(NamedTuple):
    """One run over one image."""

    image: np.ndarray  # (H, W) or (H, W, 3) in [0, 1]
    places: np.ndarray  # (T, 2), (column, row) in pixels
    seen: np.ndarray  # (T, scales, side, side), channels averaged
    believed: np.ndarray  # (T, classes) probabilities after each look


def walks(model: Glimpses, x: Tensor) -> list[Walk]:
    """A run over each image (B, C, H, W), places drawn from the model."""
    with torch.no_grad():
        places, logits = (torch.stack(column) for column in zip(*model(x), strict=True))
        seen = torch.stack([model.places.retina(x, place) for place in places])
    height, width = x.shape[-2:]
    pixels = (places + 1) / 2 * places.new_tensor([width, height]) - 0.5
    seen = seen.unflatten(2, (model.places.retina.scales, -1)).mean(3)
    columns = (pixels, seen, logits.softmax(-1))
    return [
        Walk(shown(x[i]), *(column[:, i].cpu().numpy() for column in columns))
        for i in range(len(x))
    ]


def shown(image: Tensor) -> np.ndarray:
    """(C, H, W) as matplotlib shows it: grey (H, W), or colours (H, W, 3)."""
    pixels = image.detach().cpu().clamp(0, 1).numpy()
    return pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(0)


def draw(found: list[Walk], names: list[str], side: int, path: Path) -> None:
    """A row for each walk: the image with its path, each look's view, and what was believed."""
    looks, scales = found[0].seen.shape[:2]
    widths = [2.0, *[1.0] * looks, 2.4]
    figure = Figure(figsize=(0.85 * sum(widths), 1.75 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), looks + 2, squeeze=False, width_ratios=widths)
    for walk, name, row in zip(found, names, axes, strict=True):
        trail(row[0], walk, side << (scales - 1))
        row[0].set_ylabel(name)
        for t in range(looks):
            view(row[t + 1], walk.seen[t], COLOURS(t / max(1, looks - 1)))
            row[t + 1].set_title(f"look {t + 1}", fontsize=8, pad=2)
        beliefs(row[-1], walk.believed)
    plots.save(figure, path)


def trail(axis: Axes, walk: Walk, side: int, upto: int | None = None) -> None:
    """The image, a line from look to look, and the widest square of the last one."""
    axis.imshow(walk.image, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    places = walk.places[:upto]
    axis.plot(places[:, 0], places[:, 1], color="white", lw=1, alpha=0.7)
    for t, (column, row) in enumerate(places):
        colour = COLOURS(t / max(1, len(walk.places) - 1))
        axis.plot(column, row, "o", color=colour, ms=5, mec="black", mew=0.5)
    corner = (column - side / 2, row - side / 2)
    axis.add_patch(Rectangle(corner, side, side, fill=False, ec=colour, lw=1.2))
    height, width = walk.image.shape[:2]
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def view(axis: Axes, seen: np.ndarray, colour: tuple[float, ...]) -> None:
    """The squares (scales, side, side) of one look, one below the other, framed."""
    axis.imshow(np.concatenate(list(seen)), cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2)


def beliefs(axis: Axes, believed: np.ndarray) -> None:
    """p(class) after each look: a row a look, a column a class."""
    axis.imshow(believed, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    looks, classes = believed.shape
    ticks = range(classes) if classes <= 12 else [int(believed[-1].argmax())]
    axis.set_xticks(list(ticks), [str(c) for c in ticks], fontsize=7)
    axis.set_yticks(range(looks), [str(t + 1) for t in range(looks)], fontsize=7)
    axis.set_title("p(class) after each look", fontsize=8, pad=2)


def animate(walk: Walk, side: int, path: Path) -> None:
    """A gif of one walk, look by look: the path, the view, what is believed."""
    looks, scales = walk.seen.shape[:2]
    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[2, 1, 2])

    def frame(t: int) -> None:
        for axis in (left, middle, right):
            axis.clear()
        trail(left, walk, side << (scales - 1), t + 1)
        left.set_title(f"look {t + 1} of {looks}", fontsize=9)
        view(middle, walk.seen[t], COLOURS(t / max(1, looks - 1)))
        classes = np.arange(walk.believed.shape[1])
        right.bar(classes, walk.believed[t], color=COLOURS(t / max(1, looks - 1)))
        right.set(ylim=(0, 1), title="p(class)", xticks=classes if len(classes) < 13 else [])

    animation = FuncAnimation(figure, frame, looks, interval=1000 // FRAMES)
    with replacing(path) as beside:
        animation.save(beside, PillowWriter(fps=FRAMES))
