"""Labelled images as columns: x, y of few rows, and the share with which a row counts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from inference.data.columns import Columns
from inference.data.sources import find_folder, load_splits
from inference.util.errors import UserError
from ppl_models.label_heads import NO_LABEL

CIFAR = "cifar10_subset_jpeg_decoded.npz"
SHOWN = 0.1  # least share of labelled rows in an epoch: they are shown several times


class Images(NamedTuple):
    """Splits with columns x (N, …) and y (N,), all labels known."""

    train: Columns
    valid: Columns
    test: Columns
    classes: int


def load_images(source: str) -> Images:
    """The labelled images of this name or path; colours less their mean in the training images.

    Raises:
        UserError: they are no labelled images, or a class is said at test that training lacks.
    """
    found = load_splits(str(find_folder("cifar10") / CIFAR)) if source == "cifar10" else None
    splits = found or load_splits(source)
    parts = [labelled(part) for part in (splits.train, splits.valid, splits.test)]
    if (channels := parts[0].tensors["x"].shape[1]) > 1:
        mean = parts[0].tensors["x"].mean((0, 2, 3)).reshape(channels, 1, 1)
        parts = [Columns({**p.tensors, "x": p.tensors["x"] - mean}) for p in parts]
    known = set(parts[0].tensors["y"].unique().tolist())
    for name, part in zip(("validation", "test"), parts[1:], strict=True):
        if unknown := set(part.tensors["y"].unique().tolist()) - known:
            raise UserError(
                f"class {min(unknown)} is among the {name} labels and not among those of training: "
                "give training images of it, or leave its images out"
            )
    train, valid, test = parts
    return Images(train, valid, test, max(known) + 1)


def labelled(images: Columns) -> Columns:
    """Columns x (N, C, H, W), y (N,) and a share of one.

    Raises:
        UserError: there are labels without images, images without labels, or others than 0, 1, …
    """
    tensors = images.tensors
    x, y = tensors.get("x"), tensors.get("label", tensors.get("y"))
    shapes = {name: tuple(column.shape) for name, column in tensors.items()}
    if x is None or x.dim() != 4:
        raise UserError(f"no column 'x' of images (N, C, H, W), only {shapes}: give the images")
    if y is None or y.dim() != 1 or y.is_floating_point():
        raise UserError(f"no column 'label' of whole numbers (N,), only {shapes}: give the labels")
    if int(y.min()) < 0:
        raise UserError(f"a label is {int(y.min())}: number the classes from 0 on")
    return Columns({"x": x, "y": y.long(), "share": torch.ones(len(y))})


def semi_supervised(train: Columns, labels: int | None, classes: int, seed: int) -> Columns:
    """The training rows, of which ``labels`` keep theirs, the same number of each class.

    Labelled rows are shown several times where they are few, each time with a part of a row's
    share, so that the sum over an epoch stays what it is and its gradient is less noisy.

    Returns:
        x, y (``NO_LABEL`` where there is none), and share, of mean 1.

    Raises:
        UserError: a class has too few images, or there is not one label a class.
    """
    x, y = train.tensors["x"], train.tensors["y"]
    if labels is None or labels >= len(y):
        return Columns({"x": x, "y": y, "share": torch.ones(len(y))})
    chosen = balanced(y, labels, classes, seed)
    known = torch.full_like(y, NO_LABEL)
    known[chosen] = y[chosen]
    times = max(1, round(SHOWN * len(y) / labels))
    rows = torch.cat([torch.arange(len(y)), chosen.repeat(times - 1)])
    share = torch.where(known[rows] == NO_LABEL, 1.0, 1 / times)
    return Columns({"x": x[rows], "y": known[rows], "share": share / share.mean()})


def balanced(y: Tensor, labels: int, classes: int, seed: int) -> Tensor:
    """``labels`` row numbers, ``labels / classes`` of each class (the first classes one more).

    Raises:
        UserError: as ``semi_supervised``.
    """
    if labels < classes:
        raise UserError(f"--labels is {labels} for {classes} classes: give at least one of each")
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    chosen = []
    for c in range(classes):
        wanted = labels // classes + (c < labels % classes)
        there = order[y[order] == c]
        if len(there) < wanted:
            raise UserError(
                f"class {c} has {len(there)} training images, and --labels {labels} needs {wanted} "
                "of it: give fewer labels"
            )
        chosen.append(there[:wanted])
    return torch.cat(chosen)


def labelled_alone(train: Columns, labels: int | None, classes: int, seed: int) -> Columns:
    """The rows of ``semi_supervised`` that have a label, each once."""
    x, y = train.tensors["x"], train.tensors["y"]
    chosen = slice(None) if labels is None else balanced(y, labels, classes, seed)
    return Columns({"x": x[chosen], "y": y[chosen], "share": torch.ones(len(y[chosen]))})
