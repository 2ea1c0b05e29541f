"""What is seen of an image at a place: squares of growing size around it, at one resolution.

The retina of Mnih et al. 2014, section 3.1: close to the place in detail, farther off coarsely.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
        self.read = bilinear if smooth else crop

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Image x (B, C, H, W) at place (…, B, 2) as (…, B, scales · C, side, side)."""
        squares = [self.read(x, place, self.side << k) for k in range(self.scales)]
        return torch.cat([pooled(square, 1 << k) for k, square in enumerate(squares)], -3)


def crop(x: Tensor, place: Tensor, side: int) -> Tensor:
    """(…, B, C, side, side) the whole pixels nearest to a square centred at the place."""
    height, width = x.shape[-2:]
    offsets = torch.arange(side, device=x.device)
    size = place.new_tensor([width, height])
    corner = ((place + 1) / 2 * size - side / 2).round().long()
    columns, rows = (corner.unsqueeze(-1) + offsets).unbind(-2)
    inside = _within(rows, height).unsqueeze(-1) & _within(columns, width).unsqueeze(-2)
    row, column = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    datum = torch.arange(len(x), device=x.device)[:, None, None]
    pixels = x[datum, :, row.unsqueeze(-1), column.unsqueeze(-2)]
    return (pixels * inside.unsqueeze(-1)).movedim(-1, -3)


def bilinear(x: Tensor, place: Tensor, side: int) -> Tensor:
    """(…, B, C, side, side) the image between pixels, in a square centred at the place."""
    height, width = x.shape[-2:]
    offsets = torch.arange(side, device=x.device, dtype=x.dtype) - (side - 1) / 2
    columns = place[..., :1] + 2 * offsets / width
    rows = place[..., 1:] + 2 * offsets / height
    pair = torch.broadcast_tensors(columns.unsqueeze(-2), rows.unsqueeze(-1))
    grid = torch.stack(pair, -1)  # (…, B, side, side, 2)
    leading = grid.shape[:-4]
    draws = grid.reshape(-1, *grid.shape[-4:]).movedim(0, 1).flatten(1, 2)  # (B, … · side, side, 2)
    seen = F.grid_sample(x, draws, align_corners=False)
    squares = seen.unflatten(2, (-1, side)).movedim(2, 0)
    return squares.reshape(*leading, *squares.shape[1:])


def pooled(square: Tensor, factor: int) -> Tensor:
    """(…, C, S, S) → (…, C, S / factor, S / factor), means."""
    if factor == 1:
        return square
    return square.unflatten(-1, (-1, factor)).mean(-1).unflatten(-2, (-1, factor)).mean(-2)


def _within(index: Tensor, length: int) -> Tensor:
    return (index >= 0) & (index < length)
