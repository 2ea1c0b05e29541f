"""q(y | x) q(z | x, y) of Kingma et al. 2014's M2."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from ppl_models.deconvolutional import weighted
from ppl_models.label_heads import NO_LABEL
from ppl_models.semi_supervised import M2, every_label, label_weights, labels_of


class LabelThenCode(PyroModule):
    """Sites y and z.

    Args:
        model: whose classifier and size.
        encoder: (…, C + D) → (…, 2 · latent_dim): the mean and log scale of z.
    """

    def __init__(self, model: M2, encoder: nn.Module) -> None:
        super().__init__()
        self.model, self.encoder = model, encoder

    def forward(self, x: Tensor, y: Tensor, share: Tensor | None = None) -> None:
        """Draw the unknown labels of rows x (B, D), then their codes."""
        logits = self.model.classifier(x)
        with pyro.plate("data", self.model.size, subsample=x), weighted(share):
            q = dist.OneHotCategorical(logits=logits)
            drawn = pyro.sample("y", q.mask(y == NO_LABEL))
            self.encode(x, labels_of(y, drawn))

    def encode(self, x: Tensor, label: Tensor) -> None:
        """Draw z given labels (…, B, C)."""
        leading = torch.broadcast_shapes(label.shape[:-1], x.shape[:-1])
        both = torch.cat([label.expand(*leading, -1), x.expand(*leading, -1)], -1)
        mean, log_scale = self.encoder(both).chunk(2, -1)
        pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))


class EveryLabel(LabelThenCode):
    """Site z, a code for each class, weighing q(y | x)."""

    def forward(self, x: Tensor, y: Tensor, share: Tensor | None = None) -> None:
        """Draw a code of rows x (B, D) under every label."""
        logits = self.model.classifier(x)
        weights = label_weights(logits, y)
        rows = pyro.plate("data", self.model.size, subsample=x)
        classes = pyro.plate("classes", logits.shape[-1], dim=-2)
        with rows, weighted(share), classes, poutine.scale(scale=weights):
            self.encode(x, every_label(logits))
