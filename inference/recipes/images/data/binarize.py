"""Binarised images: a grey level is a pixel's probability of 1."""

from __future__ import annotations

import torch

from inference.data.columns import Batch, Columns, Transform
from inference.data.values import images as rows_of_pixels
from inference.data.values import refuse_beyond_unit


def binarize(column: str = "x") -> Transform:
    """A batch transform: x ~ Bernoulli(grey level), on the batch's device.

    Salakhutdinov & Murray 2008.  Draws come from torch's generator: new in each epoch, the same in
    a resumed run.
    """

    def transform(batch: Batch) -> Batch:
        return {**batch, column: torch.bernoulli(batch[column])}

    return transform


def flat_binary(images: Columns) -> Columns:
    """Images as rows of binary pixels x (N, D); grey levels are binarised anew for each batch.

    Raises:
        UserError: there are none, or their values are no probabilities.
    """
    x = rows_of_pixels("a model of binary images", images.tensors, most_dims=2)
    refuse_beyond_unit(x)
    is_binary = bool(((x == 0) | (x == 1)).all())
    return Columns({"x": x}, None if is_binary else binarize("x"))
