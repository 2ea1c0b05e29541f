"""Kingma et al. 2014's M2: a label and a code make an image; the label is a latent where unknown.

    y ~ Categorical(1/C),  z ~ N(0, I),  x ~ p(x | y, z);   q(y | x) q(z | x, y)

Where y is known the bound has α log q(y | x) more, so that the classifier learns from labels, too.
M1+M2 is this program on the codes of a VAE.
"""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from ppl_models.deconvolutional import weighted
from ppl_models.label_heads import NO_LABEL
from ppl_models.likelihoods import Likelihood

LEAST = 1e-30  # a label's weight: Pyro's scales are positive


class M2(PyroModule):
    """Sites y (one-hot, where unknown), z and x: the label is drawn.

    Args:
        decoder: (…, C + latent_dim) → (…, D).
        classifier: (…, D) → logits (…, C) of q(y | x), shared with the guide.
        likelihood: of x (…, D) given the decoder's output.
        latent_dim: length of z.
        size: N, rows of the whole data set.
        alpha: α.
    """

    def __init__(
        self,
        decoder: nn.Module,
        classifier: nn.Module,
        likelihood: Likelihood,
        latent_dim: int,
        size: int,
        alpha: float,
    ) -> None:
        super().__init__()
        self.decoder, self.classifier, self.likelihood = decoder, classifier, likelihood
        self.latent_dim, self.size, self.alpha = latent_dim, size, alpha

    def forward(self, x: Tensor, y: Tensor, share: Tensor | None = None) -> None:
        """Rows x (B, D), labels y (B,), ``NO_LABEL`` for none, and the rows' weights."""
        logits, known = self.classifier(x), y != NO_LABEL
        with pyro.plate("data", self.size, subsample=x), weighted(share):
            uniform = dist.OneHotCategorical(logits=torch.zeros_like(logits))
            drawn = pyro.sample("y", uniform.mask(~known))
            self.observe(x, labels_of(y, drawn))
            self.classify(logits, y)

    def observe(self, x: Tensor, label: Tensor) -> None:
        """z and x given labels (…, B, C)."""
        z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
        leading = torch.broadcast_shapes(label.shape[:-1], z.shape[:-1])
        both = torch.cat([label.expand(*leading, -1), z.expand(*leading, -1)], -1)
        pyro.sample("x", self.likelihood(self.decoder(both), 1), obs=x)

    def classify(self, logits: Tensor, y: Tensor) -> None:
        """log p(y) + α log q(y | x) of the known labels."""
        log_q = -F.cross_entropy(logits, y.clamp(min=0), reduction="none")
        prior = -math.log(logits.shape[-1])
        pyro.factor("label", (prior + self.alpha * log_q) * (y != NO_LABEL))


class SummedM2(M2):
    """The same with the label summed out: C codes a row, each weighing q(y | x)."""

    def forward(self, x: Tensor, y: Tensor, share: Tensor | None = None) -> None:
        """As of M2; sites z (C, B, D) and x."""
        logits, known = self.classifier(x), y != NO_LABEL
        classes = logits.shape[-1]
        weights = label_weights(logits, y)
        with pyro.plate("data", self.size, subsample=x), weighted(share):
            with pyro.plate("classes", classes, dim=-2), poutine.scale(scale=weights):
                self.observe(x, every_label(logits))
            entropy = dist.Categorical(logits=logits).entropy()
            pyro.factor("y", (entropy - math.log(classes)) * ~known)
            self.classify(logits, y)


def labels_of(y: Tensor, drawn: Tensor) -> Tensor:
    """(…, B, C) one-hot: y (B,) where known, else what was drawn."""
    given = F.one_hot(y.clamp(min=0), drawn.shape[-1]).to(drawn.dtype)
    return torch.where((y != NO_LABEL).unsqueeze(-1), given, drawn)


def every_label(logits: Tensor) -> Tensor:
    """(C, 1, C): each class, one-hot."""
    return torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device).unsqueeze(1)


def label_weights(logits: Tensor, y: Tensor) -> Tensor:
    """(C, B): q(y | x) where y is unknown, else 1 for the label and (all but) 0 for others."""
    return labels_of(y, logits.softmax(-1)).clamp(min=LEAST).T
