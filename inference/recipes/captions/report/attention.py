"""Plots of a captioner's attention: for each word, its weights over the photograph in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL.Image import Image
from torch import Tensor

from inference.results import plots
from inference.util.errors import UserError

GLOW, STRONGEST = "#ff7a00", 0.6
POINT = "#00e5ff"
COLUMNS = 7
MOST_PIXELS = 600  # on a side, of a picture as it is shown
TALLEST = 4.0  # panel, in its widths

Point = tuple[float, float]


@dataclass(frozen=True)
class Example:
    """A caption and its picture.

    Args:
        name: the picture's.
        picture: in RGB.
        words: W of them.
        attention: (W or more, h, w), the weights with which each word looked at a grid over the
            picture; those after the last word are not shown.
        places: (W or more, h, w) one-hot, the locations that were drawn, if they were.
        references: captions by people.
        figures: scores of this caption by name, with units.

    Raises:
        UserError: a word has no attention.
    """

    name: str
    picture: Image
    words: Sequence[str]
    attention: Tensor
    places: Tensor | None = None
    references: Sequence[str] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for maps in (self.attention, self.places):
            if maps is not None and (maps.dim() != 3 or len(maps) < len(self.words)):
                raise UserError(
                    f"attention to {self.name} has shape {tuple(maps.shape)}: give it (words, "
                    f"rows, columns), with a map for each of the {len(self.words)} words"
                )

    def glow(self) -> np.ndarray:
        """(W, h, w, 4) in [0, 1], RGB and alpha: opaque where the attention is largest."""
        maps = self.attention[: len(self.words)].detach().cpu().double().numpy()
        most = maps.max(initial=np.finfo(float).tiny)
        colour = np.broadcast_to(to_rgb(GLOW), (*maps.shape, 3))
        return np.concatenate([colour, STRONGEST * (maps / most)[..., None]], -1)

    def points(self) -> list[Point | None]:
        """The centre (x, y) of each word's drawn location, as fractions of the picture."""
        if self.places is None:
            return [None] * len(self.words)
        rows, columns = self.places.shape[1:]
        at = self.places[: len(self.words)].flatten(1).argmax(1).tolist()
        return [((i % columns + 0.5) / columns, (i // columns + 0.5) / rows) for i in at]


def plot_attention(example: Example, path: Path) -> None:
    """A PNG of the picture alone and a panel for each word: its attention, a point where drawn."""
    picture = example.picture.copy()
    picture.thumbnail((MOST_PIXELS, MOST_PIXELS))
    figure, axes = _panels(len(example.words) + 1, picture.size)
    axes[0].imshow(picture)
    grey = picture.convert("L")
    shown = zip(axes[1:], example.words, example.glow(), example.points(), strict=True)
    for axis, word, glow, point in shown:
        axis.set_title(word, fontsize=12, pad=3, parse_math=False)
        _show(axis, grey, glow, point)
    plots.save(figure, path)


def _panels(count: int, size: tuple[int, int]) -> tuple[Figure, list[Axes]]:
    """The layout of panels in rows of nearly equal length."""
    rows = -(-count // COLUMNS)
    columns = -(-count // rows)
    height = 1.5 * min(size[1] / size[0], TALLEST) + 0.25
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02)
    figure = Figure(figsize=(1.5 * columns, height * rows), layout=layout)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    return figure, axes[:count]


def _show(axis: Axes, grey: Image, glow: np.ndarray, point: Point | None) -> None:
    width, height = grey.size
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
    axis.imshow(glow, extent=edges, interpolation="bicubic")
    if point is not None:
        x, y = point[0] * width - 0.5, point[1] * height - 0.5
        axis.plot(x, y, "o", color=POINT, markersize=6, markeredgecolor="black")
