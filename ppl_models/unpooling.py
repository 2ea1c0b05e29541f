"""Stochastic pooling and unpooling: each block of a map has one place, said by a one-hot z.

Pu et al. 2016, *A deep generative deconvolutional image model*, section 2.1: unpooling puts a
number at the place z of its block, zeros elsewhere; pooling reads the number there.
"""

from __future__ import annotations

from torch import Tensor


def blocks(maps: Tensor, side: int) -> Tensor:
    """(…, K, H, W) → (…, K, H/side, W/side, side²), row by row within a block."""
    tiles = maps.unflatten(-2, (-1, side)).unflatten(-1, (-1, side))  # … h, i, w, j
    return tiles.movedim(-3, -2).flatten(-2)


def tiled(cells: Tensor, side: int) -> Tensor:
    """The inverse of ``blocks``."""
    tiles = cells.unflatten(-1, (side, side)).movedim(-2, -3)  # … h, i, w, j
    return tiles.flatten(-2).flatten(-3, -2)


def pool(maps: Tensor, z: Tensor, side: int) -> Tensor:
    """(…, K, H/side, W/side) the number at the place z (…, K, H/side, W/side, side²)."""
    return (blocks(maps, side) * z).sum(-1)


def unpool(maps: Tensor, z: Tensor, side: int) -> Tensor:
    """(…, K, h · side, w · side), each number of maps (…, K, h, w) at the place z of its block."""
    return tiled(maps.unsqueeze(-1) * z, side)
