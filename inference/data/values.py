"""What numbers mean: which value of an image is white, which class a label names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from inference.util.errors import UserError
from inference.util.terminal import note

Arrays = Mapping[str, np.ndarray]
Range = tuple[float, float]
UNIT: Range = (0.0, 1.0)
IMAGE = "x"  # the column of images, by name
LABELS = ("label", "labels", "y", "target")
GREYS = (255, 65535)  # white, in 8 and in 16 bits
MOST_TOLD = 5  # classes


def tensors(name: str, parts: Sequence[np.ndarray], given: Range | None = None) -> list[Tensor]:
    """One column of several splits as tensors, treated alike.

    Images (N, H, W) of whole numbers, and (N, H, W, C) or (N, C, H, W), become floats (N, C, H, W);
    their black is 0 and their white is 1, see ``value_range``.  Other numbers keep their values.

    Raises:
        UserError: the column is not numeric, or which value is white cannot be known.
    """
    parts = [native(name, part) for part in parts]
    parts = [part.astype(np.float32) if part.dtype.kind == "f" else part for part in parts]
    if not (is_image(name, parts[0]) and all(map(len, parts))):
        return [torch.from_numpy(part) for part in parts]
    low, high = value_range(name, parts, given)
    return [torch.from_numpy(_channels_first(_scaled(part, low, high))) for part in parts]


def is_image(name: str, array: np.ndarray) -> bool:
    """Whether a column is of images: x, or any stack of bytes; also x in rows of bytes."""
    stack, small = array.ndim in (3, 4), array.dtype in (np.uint8, np.bool_)
    return (stack and (small or name == IMAGE)) or (array.ndim == 2 and small and name == IMAGE)


def value_range(name: str, parts: Sequence[np.ndarray], given: Range | None = None) -> Range:
    """The values of a column of images that are black and white: given, or found and said.

    Binary 0 and 1, and floats in [0, 1], are taken as they are; −1 and 1 become 0 and 1; what
    reaches from 0 beyond the half of 255 or 65,535 are grey levels.  Other floats are left alone.

    Raises:
        UserError: they are whole numbers in another range.
    """
    low, high = float(min(p.min() for p in parts)), float(max(p.max() for p in parts))
    if given is not None:
        if not given[0] < given[1]:
            raise UserError(
                f"--range {given[0]:g} {given[1]:g}: give less for black than for white"
            )
        return given
    whole = parts[0].dtype.kind in "iu"
    if low >= 0 and high <= 1:
        return UNIT
    if all(np.isin(part, (-1, 1)).all() for part in parts):
        return _told(name, -1, 1)
    for white in GREYS if whole else GREYS[:1]:
        if low >= 0 and white / 2 < high <= white:
            return _told(name, 0, white)
    if whole:
        raise UserError(
            f"column {name!r} holds whole numbers from {low:g} to {high:g}: say which are black "
            f"and white, --range {low:g} {high:g} or --range 0 255"
        )
    return UNIT


def _told(name: str, low: float, high: float) -> Range:
    note(f"column {name!r}: {low:g} is taken for black, {high:g} for white (else give --range)")
    return low, high


def _scaled(array: np.ndarray, low: float, high: float) -> np.ndarray:
    values = array.astype(np.float32)
    return values if (low, high) == UNIT else (values - low) / (high - low)


def _channels_first(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[-1] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        return np.ascontiguousarray(np.moveaxis(array, -1, 1))
    return array


def native(name: str, array: np.ndarray) -> np.ndarray:
    """A writable copy, in a type that torch knows.

    Raises:
        UserError: the column is not numeric, or holds a number that int64 does not.
    """
    if array.dtype.kind not in "fiub":
        raise UserError(f"column {name!r} is not numeric (its type is {array.dtype})")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        if array.size and array.max() > np.iinfo(np.int64).max:
            raise UserError(f"column {name!r} holds {array.max()}, which int64 does not: scale it")
        return array.astype(np.int64)
    return array.astype(array.dtype.newbyteorder("="))


def encoded(name: str, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A column of words as the numbers of the words, in alphabetical order; said."""
    words, numbers = np.unique(np.concatenate(parts), return_inverse=True)
    told = [f"{word} = {n}" for n, word in enumerate(words[:MOST_TOLD])]
    more = ", …" * (len(words) > MOST_TOLD)
    note(f"column {name!r} holds {len(words)} words, numbered: {', '.join(told)}{more}")
    return np.split(numbers.astype(np.int64), np.cumsum([len(part) for part in parts])[:-1])


def class_numbers(columns: Mapping[str, np.ndarray] | Mapping[str, Tensor]) -> np.ndarray | None:
    """(N,) the class of each row, of the first column that is named as labels are; None if none.

    One-hot rows (N, K) are the number of their one; a column (N, 1) is (N,).
    """
    name = next((name for name in LABELS if name in columns), None)
    if name is None:
        return None
    labels = np.asarray(columns[name])
    if labels.ndim == 2 and labels.shape[1] > 1 and is_one_hot(labels):
        labels = labels.argmax(1)
    labels = labels.reshape(-1) if labels.shape[1:] == (1,) else labels
    if labels.ndim != 1 or labels.dtype.kind not in "fiub" or not (labels == labels // 1).all():
        return None
    return labels.astype(np.int64)


def images(who: str, columns: Mapping[str, Tensor], most_dims: int = 4) -> Tensor:
    """The column x of images (N, C, H, W), of floats; or as rows (N, D) for ``most_dims`` 2.

    Rows of pixels (N, S²) are images of S × S, and it is said.

    Raises:
        UserError: there is no such column; ``who`` needs it.
    """
    x = columns.get(IMAGE)
    if x is not None and x.dim() == 3:  # grey images without a channel
        x = x[:, None]
    if x is not None and x.dim() == 2 and most_dims == 4:
        x = squares(x)
    if x is not None and x.is_floating_point():
        if most_dims == 2 and x.dim() in (2, 4):
            return x.flatten(1)
        if x.dim() == most_dims:
            return x
    shapes = {name: tuple(column.shape) for name, column in columns.items()}
    raise UserError(
        f"{who} needs a column 'x' of images (N, C, H, W) or (N, H, W); the data have {shapes}"
    )


def squares(x: Tensor) -> Tensor:
    """Rows of S² pixels as images (N, 1, S, S), said; other rows as they are."""
    side = math.isqrt(x.shape[1])
    if side < 2 or side**2 != x.shape[1]:
        return x
    note(f"rows of {x.shape[1]} numbers in column 'x' are taken for {side} × {side} pixels")
    return x.reshape(len(x), 1, side, side)


def refuse_beyond_unit(x: Tensor, other: str = "") -> None:
    """Raise a ``UserError`` for images that are no probabilities, with another remedy, if any."""
    if x.min() < 0 or x.max() > 1:
        raise UserError(
            f"column 'x' has values from {x.min():g} to {x.max():g}, outside of [0, 1]: say which "
            f"are black and white, as by --range 0 100{other}"
        )


def labelled_images(who: str, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and their classes (N,).

    Raises:
        UserError: there are no images, or no labels from 0 on; ``who`` needs them.
    """
    x, labels = images(who, columns), class_numbers(columns)
    if labels is None or labels.min() < 0:
        shapes = {name: tuple(column.shape) for name, column in columns.items()}
        raise UserError(
            f"{who} needs a column 'label' (N,) of whole numbers from 0 on; the data have {shapes}"
        )
    return x, torch.from_numpy(labels)


def is_one_hot(labels: np.ndarray) -> bool:
    """Whether each row (N, K) is of zeros and a single one."""
    return labels.dtype.kind in "fiub" and bool(
        ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()
    )
