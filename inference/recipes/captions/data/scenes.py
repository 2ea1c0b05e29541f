"""Composed scenes: real digits and clothes in the cells of a canvas, at known locations.

A scene is a canvas of 32 × 32, 4 × 4 cells of 8 × 8, in which one to three things of different
classes lie.  Its captions name them in reading order, so that the places decide what the next word
names: once joined (``a two and a nine``), once by how they lie (``a two above left of a nine``).
One location of the encoder ``pixels`` is one cell.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from inference.data.sources import digits, find_folder, idx_folder
from inference.data.vocabulary import tokenize
from inference.recipes.captions.data.pictures import NOWHERE, Captioned, Picture, Split

SIDE, CELL = 4, 8  # cells, pixels
MAX_OBJECTS = 3  # objects in a scene
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLOTHES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
Things = tuple[np.ndarray, np.ndarray]  # pictures (N, CELL, CELL) of bytes, classes (N,)


def scenes(
    sizes: tuple[int, int, int] = (4000, 500, 500), seed: int = 0, clothing: bool = False
) -> Captioned:
    """Scenes for train, valid and test, made of pictures that the splits do not share.

    Args:
        sizes: scenes of each split.
        seed: of everything drawn.
        clothing: with Fashion-MNIST's pictures, made smaller, among scikit-learn's digits.

    Raises:
        UserError: Fashion-MNIST is asked for and not found.
    """
    names = DIGITS + CLOTHES if clothing else DIGITS
    pictures: list[Picture] = []
    streams = np.random.default_rng(seed).spawn(3)
    for (split, things), size, rng in zip(_things(clothing).items(), sizes, streams, strict=True):
        canvases, classes, cells = compose(things, size, rng)
        stem = f"{split}-of-{size}-seed-{seed}{'-clothing' * clothing}"
        for i in range(size):
            there = classes[i] >= 0
            objects = [names[c] for c in classes[i, there]]
            captions, places = _captions(objects, cells[i, there].tolist())
            read = partial(_png, canvases[i])
            pictures.append(Picture(f"{stem}-{i}", split, captions, read, places))
    return Captioned("scenes-clothing" if clothing else "scenes", tuple(pictures))


def compose(
    things: Things, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scenes of one to ``MOST`` things, of different classes, in different cells.

    Returns:
        canvases (size, 32, 32) of bytes; classes (size, MOST) in reading order, −1 for no thing;
        and their cells (size, MOST), row by row.
    """
    pictures, labels = things
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    cells = np.sort(rng.random((size, SIDE**2)).argsort(1)[:, :MAX_OBJECTS], 1)
    classes = rng.random((size, len(counts))).argsort(1)[:, :MAX_OBJECTS]
    member = (rng.random((size, MAX_OBJECTS)) * counts[classes]).astype(int)
    chosen = order[(np.cumsum(counts) - counts)[classes] + member]
    there = np.arange(MAX_OBJECTS) < rng.integers(1, MAX_OBJECTS + 1, (size, 1))
    grid = np.zeros((size, SIDE**2, CELL, CELL), np.uint8)
    grid[np.nonzero(there)[0], cells[there]] = pictures[chosen[there]]
    canvases = grid.reshape(size, SIDE, SIDE, CELL, CELL).swapaxes(2, 3)
    return canvases.reshape(size, SIDE * CELL, -1), np.where(there, classes, -1), cells


def _captions(
    objects: Sequence[str], cells: Sequence[int]
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    named = [f"{'an' if thing[0] == 'e' else 'a'} {thing}" for thing in objects]
    lying = named[0]
    for i in range(1, len(named)):
        lying += f" {_relation(cells[i - 1], cells[i])} {named[i]}"
    captions = (" and ".join(named), lying) if len(named) > 1 else (named[0],)
    where = dict(zip(objects, cells, strict=True))
    places = (tuple(where.get(word, NOWHERE) for word in tokenize(c)) for c in captions)
    return captions, tuple(places)


def _relation(first: int, second: int) -> str:
    """How the first cell lies to a second that comes later in reading order."""
    (row, column), (other_row, other_column) = divmod(first, SIDE), divmod(second, SIDE)
    above = "above" if row < other_row else ""
    side = "left of" if column < other_column else "right of" if column > other_column else ""
    return f"{above} {side}".strip()


def _things(clothing: bool) -> dict[Split, Things]:
    found = digits()
    fashion = idx_folder(find_folder("fashion-mnist")) if clothing else None
    things: dict[Split, Things] = {}
    for split in ("train", "valid", "test"):
        parts = [getattr(s, split).tensors for s in (found, fashion) if s]
        pictures = [_small(part["x"]) for part in parts]
        labels = [part["label"].numpy() + 10 * k for k, part in enumerate(parts)]
        things[split] = np.concatenate(pictures), np.concatenate(labels).astype(int)
    return things


def _small(x: Tensor) -> np.ndarray:
    """Pictures (N, 1, H, W) in [0, 1] as bytes (N, CELL, CELL)."""
    return (255 * F.adaptive_avg_pool2d(x, CELL)[:, 0]).round().byte().numpy()


def _png(canvas: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(canvas).save(out, "png")
    return out.getvalue()
