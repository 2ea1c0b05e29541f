"""Convolution of maps with a dictionary, and its adjoint, fast also for images of few channels.

A library's convolution is slow on a CPU where one side has few channels: a step on 28 × 28 grey
images with 30 filters of 8 × 8 spends most of its time there.  The same sums are one product with
all patches of the image; maps then lie in memory map by map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Size, Tensor

FEW = 4  # channels of an image; with more, the library's convolution is the faster one


def convolve(x: Tensor, filters: Tensor, margin: int = 0) -> Tensor:
    """Maps (…, C, H, W) read with filters (K, C, k, k): (…, K, H', W'), H' = H + 2 margin − k + 1.

    Args:
        x: maps or images.
        filters: K of them.
        margin: of zeros around the maps; (k − 1)/2 keeps their size.
    """
    if filters.shape[1] > FEW:
        return _each(lambda rows: F.conv2d(rows, filters, padding=margin), x)
    patches = patches_of(F.pad(x, (margin,) * 4), filters.shape[-1])
    leading, grid = patches.shape[3:-2], patches.shape[-2:]
    maps = filters.flatten(1) @ patches.reshape(filters[0].numel(), -1)
    return maps.reshape(-1, *leading, *grid).movedim(0, -3)


def deconvolve(maps: Tensor, dictionary: Tensor, margin: int = 0) -> Tensor:
    """The adjoint: Σ_k dictionary_k ∗ maps_k, (…, K, H', W') → (…, C, H, W).

    Args:
        maps: how much of each element lies where.
        dictionary: (K, C, k, k).
        margin: as of ``convolve``; what falls outside is cut off.
    """
    if dictionary.shape[1] > FEW:
        return _each(lambda rows: F.conv_transpose2d(rows, dictionary, padding=margin), maps)
    elements, channels, side, _ = dictionary.shape
    first = maps.movedim(-3, 0)
    pieces = dictionary.flatten(1).T @ first.reshape(elements, -1)
    whole = sum_of_patches(pieces.reshape(channels, side, side, *first.shape[1:]))
    height, width = whole.shape[-2:]
    return whole[..., margin : height - margin, margin : width - margin].movedim(0, -3)


def patches_of(x: Tensor, side: int) -> Tensor:
    """(C, k, k, …, H', W'): pixel (i, j) of the patch at each place of x (…, C, H, W)."""
    seen = x.unfold(-2, side, 1).unfold(-2, side, 1)
    return seen.movedim((-5, -2, -1), (0, 1, 2))


@torch.library.custom_op("lowerbound::sum_of_patches", mutates_args=())
def sum_of_patches(patches: Tensor) -> Tensor:
    """The adjoint of ``patches_of``, channels first: (C, k, k, …, H', W') → (C, …, H, W).

    One operator, opaque to autograd and to compilers: they would keep k² slices.
    """
    side = patches.shape[1]
    rows, columns = patches.shape[-2:]
    out = patches.new_zeros(_laid(patches))
    for i in range(side):
        for j in range(side):
            out[..., i : i + rows, j : j + columns] += patches[:, i, j]
    return out


@sum_of_patches.register_fake
def _shape(patches: Tensor) -> Tensor:
    return patches.new_empty(_laid(patches))


def _laid(patches: Tensor) -> Size:
    height, width = (n + patches.shape[1] - 1 for n in patches.shape[-2:])
    return Size((len(patches), *patches.shape[3:-2], height, width))


def _keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.side = inputs[0].shape[1]


def _read(ctx: Any, slope: Tensor) -> Tensor:
    seen = slope.unfold(-2, ctx.side, 1).unfold(-2, ctx.side, 1)
    return seen.movedim((-2, -1), (1, 2))


sum_of_patches.register_autograd(_read, setup_context=_keep)


def _each(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer of (B, C, H, W) applied to (…, C, H, W)."""
    leading = x.shape[:-3]
    return layer(x.reshape(-1, *x.shape[-3:])).unflatten(0, leading)
