"""Dynamic binarisation: grey levels as probabilities, drawn anew for every batch."""

from __future__ import annotations

import torch

from inference.data.columns import Batch, Transform


def binarize(column: str = "x") -> Transform:
    """A batch transform: x ~ Bernoulli(grey level), on the batch's device.

    Salakhutdinov & Murray 2008.  Draws come from torch's generator, so that they are anew in each
    epoch and the same in a resumed run.
    """

    def transform(batch: Batch) -> Batch:
        return {**batch, column: torch.bernoulli(batch[column])}

    return transform
