"""Networks between vectors and images that keep every leading (particle and data) dimension."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

Shape = Sequence[int]


def mlp(widths: Sequence[int], activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Affine layers ``widths[0] → … → widths[-1]`` with an activation between them.

    Maps (..., widths[0]) to (..., widths[-1]).
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


class Flatten(nn.Module):
    """(..., *shape) → (..., prod(shape))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dims = len(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the leading dimensions."""
        return x.flatten(-self.dims) if self.dims else x.unsqueeze(-1)


def image_encoder(
    shape: Shape, hidden: Sequence[int], out: int, activation: type[nn.Module] = nn.Tanh
) -> nn.Sequential:
    """An MLP from images (..., *shape) to (..., out)."""
    return nn.Sequential(Flatten(shape), mlp([math.prod(shape), *hidden, out], activation))


def image_decoder(
    shape: Shape, hidden: Sequence[int], latent_dim: int, activation: type[nn.Module] = nn.Tanh
) -> nn.Sequential:
    """An MLP from (..., latent_dim) to images (..., *shape)."""
    layers = mlp([latent_dim, *hidden, math.prod(shape)], activation)
    return nn.Sequential(layers, nn.Unflatten(-1, tuple(shape)))


class ConvEncoder(nn.Module):
    """Two strided convolutions and an affine layer: (..., C, H, W) → (..., out), any H and W."""

    def __init__(self, shape: Shape, channels: int, out: int) -> None:
        super().__init__()
        c, h, w = shape
        self.convs = nn.Sequential(
            nn.Conv2d(c, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(2 * channels * math.ceil(h / 4) * math.ceil(w / 4), out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C, H, W) → (..., out)."""
        leading = x.shape[:-3]
        features = self.head(self.convs(x.reshape(-1, *x.shape[-3:])))
        return features.reshape(*leading, -1)


class ConvDecoder(nn.Module):
    """The mirror of ``ConvEncoder``: (..., latent_dim) → (..., C, H, W), cropped to H × W."""

    def __init__(self, shape: Shape, channels: int, latent_dim: int) -> None:
        super().__init__()
        c, self.height, self.width = shape
        grid = (2 * channels, math.ceil(self.height / 4), math.ceil(self.width / 4))
        self.head = nn.Sequential(nn.Linear(latent_dim, math.prod(grid)), nn.Unflatten(-1, grid))
        self.convs = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, c, 4, stride=2, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """(..., latent_dim) → (..., C, H, W)."""
        grid = self.head(z)
        image = self.convs(grid.reshape(-1, *grid.shape[-3:]))[..., : self.height, : self.width]
        return image.reshape(torch.Size((*z.shape[:-1], *image.shape[-3:])))
