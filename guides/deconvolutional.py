"""The convolutional encoder of the deconvolutional model, q(s, z | X) (Pu et al. 2016).

z is drawn from the features of each block, and the encoder reads on at the drawn places: the places
where the decoder puts things are those where the encoder found them.
"""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ppl_models.convolution import convolve
from ppl_models.deconvolutional import Deconvolutional, Level, shape_of, weighted
from ppl_models.unpooling import blocks

STRENGTH = 4.0  # nats that a strong feature has ahead of none, at first


class PerMap(nn.Module):
    """An MLP of one tanh layer for each of K maps: (…, K, h, w, in) → (…, K, h, w, out).

    Equations 25 to 27 of the supplement, and the softmax of each block.
    """

    def __init__(self, maps: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(maps, hidden, inputs))
        self.second = nn.Parameter(torch.empty(maps, outputs, hidden))
        self.inner = nn.Parameter(torch.empty(maps, hidden, 1))
        self.outer = nn.Parameter(torch.empty(maps, outputs, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights that keep the scale of what they read; no biases."""
        with torch.no_grad():
            for weight in (self.first, self.second):
                weight.normal_(0, 1 / math.sqrt(weight.shape[-1]))
            for bias in (self.inner, self.outer):
                bias.zero_()

    def forward(self, cells: Tensor) -> Tensor:
        """Maps first and cells last in memory: products of (hidden, in) with all cells at once."""
        columns = cells.movedim((-4, -1), (0, 1))
        h = torch.tanh(self.first @ columns.flatten(2) + self.inner)
        out = self.second @ h + self.outer
        return out.unflatten(2, columns.shape[2:]).movedim((0, 1), (-4, -1))


class Places(PerMap):
    """Logits of a block's p² places by its features: at first, higher where a feature is strong.

    Else every place is as likely as another at first, and reading at places is no more than a mean.
    """

    def __init__(self, maps: int, places: int) -> None:
        super().__init__(maps, places, places, places)

    def reset_parameters(self) -> None:
        """STRENGTH · tanh(features)."""
        super().reset_parameters()
        with torch.no_grad():
            self.first.copy_(torch.eye(self.first.shape[-1]))
            self.second.copy_(STRENGTH * self.first)


class Encoder(nn.Module):
    """The networks of the guide.

    Args:
        levels: the model's.
        hidden: width of the MLPs of codes.
    """

    def __init__(self, levels: list[Level], hidden: int = 32) -> None:
        super().__init__()
        self.filters = nn.ParameterList(torch.empty(shape_of(level)) for level in levels)
        self.where = nn.ModuleDict(
            {
                str(number): Places(level.layer.maps, level.layer.pool**2)
                for number, level in enumerate(levels, start=1)
                if level.layer.pool > 1
            }
        )
        maps, height, width = levels[-1].pooled
        self.code = PerMap(maps, height * width, hidden, 2 * height * width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Filters that keep the scale of what they read."""
        with torch.no_grad():
            for weight in self.filters:
                weight.normal_(0, math.sqrt(2 / weight[0].numel()))

    def choose(self, number: int, cells: Tensor) -> dist.TorchDistribution:
        """q(z_l | X) from the blocks (…, K, h, w, p²) of a layer's features."""
        return dist.OneHotCategorical(logits=self.where[str(number)](cells)).to_event(3)

    def describe(self, features: Tensor) -> dist.TorchDistribution:
        """q(s | X, z) from the top features (…, K, h, w)."""
        cells = features.flatten(-2)[..., None, None, :]
        mean, log_scale = self.code(cells)[..., 0, 0, :].chunk(2, -1)
        return dist.Normal(mean.flatten(-2), (log_scale.flatten(-2) - 1).exp()).to_event(1)


class Convolutional(PyroModule):
    """Sites z_1, …, z_L, then s, and the latents of the model's head.

    Args:
        model: whose levels, size and head.
        hidden: width of the MLPs of codes.
    """

    def __init__(self, model: Deconvolutional, hidden: int = 32) -> None:
        super().__init__()
        self.model, self.encoder = model, Encoder(model.levels, hidden)

    def forward(self, x: Tensor, y: Tensor | None = None, share: Tensor | None = None) -> Tensor:
        """Images x (B, C, H, W); y and shares as the model's.  The draw of s."""
        model = self.model
        with pyro.plate("data", model.size, subsample=x), weighted(share):
            features = x
            for number, level in enumerate(model.levels, start=1):
                features = convolve(features, self.encoder.filters[number - 1], level.margin)
                if level.layer.pool > 1:
                    cells = blocks(features, level.layer.pool)
                    z = pyro.sample(f"z_{number}", self.encoder.choose(number, cells))
                    features = (cells * z).sum(-1)
            s = pyro.sample("s", self.encoder.describe(features))
            if y is not None:
                model.head.draw(s, y)
        return s
