"""Binary images: grey levels are probabilities of a pixel."""

from __future__ import annotations

import torch

from inference.data.columns import Batch, Columns, Transform


def binarize(column: str = "x") -> Transform:
    """A batch transform: x ~ Bernoulli(grey level), on the batch's device.

    Salakhutdinov & Murray 2008.  Draws come from torch's generator, so that they are anew in each
    epoch and the same in a resumed run.
    """

    def transform(batch: Batch) -> Batch:
        return {**batch, column: torch.bernoulli(batch[column])}

    return transform


def flat_binary(images: Columns) -> Columns:
    """Images as rows of pixels x (N, D), binary: drawn anew for each batch if they are grey."""
    x = images.tensors["x"].flatten(1)
    is_binary = bool(((x == 0) | (x == 1)).all())
    return Columns({"x": x}, None if is_binary else binarize("x"))
