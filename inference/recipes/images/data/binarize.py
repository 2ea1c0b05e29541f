"""Binarised images: a grey level is a pixel's probability of 1."""

from __future__ import annotations

import torch

from inference.data.columns import Batch, Columns, Transform


def binarize(column: str = "x") -> Transform:
    """A batch transform: x ~ Bernoulli(grey level), on the batch's device.

    Salakhutdinov & Murray 2008.  Draws come from torch's generator: new in each epoch, the same in
    a resumed run.
    """

    def transform(batch: Batch) -> Batch:
        return {**batch, column: torch.bernoulli(batch[column])}

    return transform


def flat_binary(images: Columns) -> Columns:
    """Images as rows of binary pixels x (N, D); grey levels are binarised anew for each batch."""
    x = images.tensors["x"].flatten(1)
    is_binary = bool(((x == 0) | (x == 1)).all())
    return Columns({"x": x}, None if is_binary else binarize("x"))
