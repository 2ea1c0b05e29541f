"""Which units a text's label rests on: q(z | x), or q(z | x, y), by the model's own selector."""

from __future__ import annotations

import pyro
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from guides.prior import is_observed
from ppl_models.rationales import ChainRationales, Marks, Rationales


class Selected(PyroModule):
    """The selector as guide, with δ(h_t, y) added to the logits if it may see the label.

    δ begins at zero: at the selector, which predicts without a label.

    Args:
        model: whose reader and selector.
        classes: of y, if the guide may see it; 0 if not.
        width: of the units' vectors.
    """

    def __init__(self, model: Rationales | ChainRationales, classes: int, width: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes
        if classes:
            self.hidden, self.tilt = nn.Linear(width + classes, width), nn.Linear(width, 1)
            nn.init.zeros_(self.tilt.weight)
            nn.init.zeros_(self.tilt.bias)

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        marks: Tensor | None = None,
        marked: Tensor | None = None,
    ) -> None:
        """Draw the mask of words x (B, T, W); the model's marked texts are known there."""
        known = None if marks is None or marked is None else Marks(marks, marked)
        with pyro.plate("data", self.model.size, subsample=x):
            units, valid = self.model.reader(x)
            beta = getattr(self.model, "beta", 1.0)  # the second reading's
            tilt = self.delta(units, y) if self.classes and y is not None else 0.0
            with poutine.scale(scale=beta), poutine.block(hide_fn=is_observed):
                self.model.selector(units, valid, known, tilt)

    def delta(self, units: Tensor, y: Tensor) -> Tensor:
        """δ (B, T) of units (B, T, width) and classes y (B,)."""
        label = F.one_hot(y, self.classes).to(units.dtype).unsqueeze(-2)
        both = torch.cat([units, label.expand(*units.shape[:-1], -1)], -1)
        return self.tilt(torch.tanh(self.hidden(both))).squeeze(-1)
