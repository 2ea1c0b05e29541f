"""What is seen of an image at a place: squares of growing size around it, at one resolution.

The retina of Mnih et al. 2014, section 3.1: close to the place in detail, farther off coarsely.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Retina(nn.Module):
    """Squares of side · 2^k pixels around a place, k < scales, each averaged to side × side.

    A place is (column, row) in [−1, 1]², from edge to edge; beyond the edges the image is 0.

    Args:
        side: pixels of the smallest square.
        scales: number of squares.
        smooth: read between pixels (bilinear), so that a gradient flows to the place.  Otherwise
            squares are whole pixels, which are piecewise constant in the place: no gradient.
    """

    def __init__(self, side: int, scales: int = 1, smooth: bool = False) -> None:
        super().__init__()
        self.side, self.scales, self.smooth = side, scales, smooth
        self.read = between_pixels if smooth else whole_pixels

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Image x (B, C, H, W) at place (…, B, 2) as (…, B, scales · C, side, side)."""
        return torch.cat([self.read(x, place, self.side, 1 << k) for k in range(self.scales)], -3)


def whole_pixels(x: Tensor, place: Tensor, side: int, factor: int) -> Tensor:
    """(…, B, C, side, side) means of factor × factor of the pixels nearest to a square."""
    height, width = x.shape[-2:]
    offsets = torch.arange(side * factor, device=x.device)
    columns, rows = (corner(x, place, side * factor).round().long().unsqueeze(-1) + offsets).unbind(
        -2
    )
    inside = _within(rows, height).unsqueeze(-1) & _within(columns, width).unsqueeze(-2)
    row, column = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    datum = torch.arange(len(x), device=x.device)[:, None, None]
    pixels = x[datum, :, row.unsqueeze(-1), column.unsqueeze(-2)]
    return pooled((pixels * inside.unsqueeze(-1)).movedim(-1, -3), factor)


def between_pixels(x: Tensor, place: Tensor, side: int, factor: int) -> Tensor:
    """The same of points between pixels: A X Bᵀ, where A weighs rows and B columns.

    So DRAW reads (Gregor et al. 2015, equation 27), there by Gaussians.
    """
    height, width = x.shape[-2:]
    start = corner(x, place, side * factor)
    rows = shares(start[..., 1], side, factor, height)
    columns = shares(start[..., 0], side, factor, width)
    return torch.einsum("...bih,bchw,...bjw->...bcij", rows, x, columns)


def corner(x: Tensor, place: Tensor, side: int) -> Tensor:
    """(…, B, 2) column and row, in pixels, where a square centred at the place begins."""
    size = place.new_tensor([x.shape[-1], x.shape[-2]])
    return (place + 1) / 2 * size - side / 2


def shares(start: Tensor, side: int, factor: int, length: int) -> Tensor:
    """(…, side, length) the weight of each pixel of a line in each of ``side`` means.

    The i-th is the mean of the points start + factor i, … + factor − 1, each interpolated between
    two pixels.  The hats of neighbouring points sum to 1: together they are a trapezium.
    """
    middles = torch.arange(side, device=start.device) * factor + (factor - 1) / 2
    pixels = torch.arange(length, device=start.device)
    away = (pixels - (start[..., None, None] + middles[:, None])).abs()
    return ((factor + 1) / 2 - away).clamp(0, 1) / factor


def pooled(square: Tensor, factor: int) -> Tensor:
    """(…, C, S, S) → (…, C, S / factor, S / factor), means."""
    if factor == 1:
        return square
    return square.unflatten(-1, (-1, factor)).mean(-1).unflatten(-2, (-1, factor)).mean(-2)


def _within(index: Tensor, length: int) -> Tensor:
    return (index >= 0) & (index < length)
