"""A label said of a code: the softmax head, and what all heads of labels have in common."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_models.deconvolutional import Head

NO_LABEL = -1  # of a row that has none


class LabelHead(Head):
    """Scores βᵀs + b of C classes.

    Args:
        features: length of s.
        classes: C.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, classes)
        self.classes = classes

    def beliefs(self, s: Tensor) -> Tensor:
        """(…, C) what to average over draws of s (…, D) before the largest is said."""
        return self.score(s)


class Softmax(LabelHead):
    """y ~ Categorical(softmax(βᵀs + b)), where there is a label."""

    def forward(self, s: Tensor, y: Tensor) -> None:
        """Observe labels y (B,), ``NO_LABEL`` for none."""
        said = dist.Categorical(logits=self.score(s)).mask(y != NO_LABEL)
        pyro.sample("y", said, obs=y.clamp(min=0))

    def beliefs(self, s: Tensor) -> Tensor:
        """(…, C) probabilities."""
        return self.score(s).softmax(-1)
