"""A deep deconvolutional model of images with stochastic unpooling (Pu et al. 2016).

    s ~ N(0, I),  then for each layer l from the top:
        z_l ~ Π OneHot(1/p², …),  S_l = unpool(S̃_{l+1}, z_l),  S̃_l = Σ_k D_lk ∗ S_lk
    X ~ N(S̃_1, I/α₀),  and what a head says of s: a label, a caption

Given z the images are linear in s, so that log p(X | z) is a Gaussian's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule
from pyro.poutine.scale_messenger import ScaleMessenger
from torch import Size, Tensor, nn

from ppl_models.convolution import deconvolve
from ppl_models.unpooling import unpool


class Layer(NamedTuple):
    """K dictionary elements of k × k, above blocks of p × p in each of which one place is used."""

    maps: int
    kernel: int
    pool: int = 1  # p; 1 for none


class Level(NamedTuple):
    """The maps between two layers."""

    layer: Layer
    below: Size  # (C, H, W) what the layer's dictionary makes
    convolved: Size  # (K, H, W) the maps S_l
    pooled: Size  # (K, H/p, W/p)
    margin: int


def levels(image: Sequence[int], layers: Sequence[Layer], same: bool = False) -> list[Level]:
    """The shapes of all maps, from the image (C, H, W) up.

    Args:
        image: its shape.
        layers: from the bottom up.
        same: whether maps keep the size of what is below (odd kernels), or lose k − 1.

    Raises:
        ValueError: a layer does not fit; the sentence names it.
    """
    found, below = [], Size(image)
    for number, layer in enumerate(layers, start=1):
        if same and layer.kernel % 2 == 0:
            raise ValueError(f"layer {number}: a kernel of {layer.kernel} has no middle, give odd")
        lost = 0 if same else layer.kernel - 1
        height, width = below[1] - lost, below[2] - lost
        if min(height, width) < 1:
            raise ValueError(f"layer {number}: {layer.kernel} is more than {below[1]} × {below[2]}")
        if height % layer.pool or width % layer.pool:
            raise ValueError(
                f"layer {number}: maps of {height} × {width} do not divide into blocks of "
                f"{layer.pool} × {layer.pool}"
            )
        convolved = Size((layer.maps, height, width))
        pooled = Size((layer.maps, height // layer.pool, width // layer.pool))
        found.append(Level(layer, below, convolved, pooled, (layer.kernel - 1) // 2 if same else 0))
        below = pooled
    return found


def shape_of(level: Level) -> tuple[int, int, int, int]:
    """(K, C, k, k) of a layer's dictionary, and of the encoder's filters."""
    return level.layer.maps, level.below[0], level.layer.kernel, level.layer.kernel


class Head(PyroModule):
    """What is said of a code s: nothing.  Others observe a label or a caption."""

    def forward(self, s: Tensor, y: Tensor) -> None:
        """Observe y (B, …), given the code s (…, B, D)."""

    def draw(self, s: Tensor, y: Tensor) -> None:
        """Draw the head's own latents, in the guide."""


class Deconvolutional(PyroModule):
    """Sites s, z_L, …, z_1 (where a layer pools), x, and the head's.

    Args:
        levels: see ``levels``.
        size: N, images in the whole data set.
        head: of the labels or captions.
        weight: ξ of what the head says.
    """

    def __init__(
        self, levels: Sequence[Level], size: int, head: Head | None = None, weight: float = 1.0
    ) -> None:
        super().__init__()
        self.levels, self.size, self.weight = list(levels), size, weight
        self.head = head or Head()
        self.dictionaries = nn.ParameterList(torch.empty(shape_of(level)) for level in levels)
        self.log_precision = nn.Parameter(torch.empty(()))  # log α₀
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Dictionaries whose images of unit codes have a variance of about .3, a layer each."""
        with torch.no_grad():
            self.log_precision.fill_(2.0)
            for level, dictionary in zip(self.levels, self.dictionaries, strict=True):
                terms = level.layer.maps * level.layer.kernel**2 / level.layer.pool**2
                dictionary.normal_(0, math.sqrt(0.3 / terms))

    @property
    def code(self) -> Size:
        """(K, H, W) of s as maps."""
        return self.levels[-1].pooled

    def forward(self, x: Tensor, y: Tensor | None = None, share: Tensor | None = None) -> Tensor:
        """Images x (B, C, H, W), what the head says y (B, …), and rows' weights; the mean of x.

        A row that is shown several times has the share of one showing.
        """
        with pyro.plate("data", self.size, subsample=x), weighted(share):
            s = pyro.sample("s", dist.Normal(x.new_zeros(self.code.numel()), 1.0).to_event(1))
            mean = self.decode(s)
            scale = (-self.log_precision / 2).exp()
            pyro.sample("x", dist.Normal(mean, scale).to_event(3), obs=x)
            if y is not None:
                with poutine.scale(scale=self.weight):
                    self.head(s, y)
        return mean

    def decode(self, s: Tensor) -> Tensor:
        """Draw z_L, …, z_1 and give the mean (…, C, H, W) of X."""
        maps = s.unflatten(-1, self.code)
        for number, level in reversed(list(enumerate(self.levels, start=1))):
            if level.layer.pool > 1:
                z = pyro.sample(f"z_{number}", anywhere(level, s))
                maps = unpool(maps, z, level.layer.pool)
            maps = deconvolve(maps, self.dictionaries[number - 1], level.margin)
        return maps


def anywhere(level: Level, like: Tensor) -> dist.TorchDistribution:
    """p(z): every place of every block with the same probability."""
    logits = like.new_zeros(()).expand(*level.pooled, level.layer.pool**2)
    return dist.OneHotCategorical(logits=logits).to_event(3)


def weighted(share: Tensor | None) -> ScaleMessenger:
    """A context in which every row of a batch counts by its share (B,)."""
    return ScaleMessenger(scale=1.0 if share is None else share)
