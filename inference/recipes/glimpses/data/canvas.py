"""Digits laid on larger canvases, anew for every batch: the tasks of the papers on glimpses.

================  =======  =================================================  ===================
task              canvas   what lies on it                                    classes
================  =======  =================================================  ===================
``translated``    60 × 60  a digit anywhere                                   10
``cluttered``     60 × 60  the same, among 4 pieces (8 × 8) of other digits   10
``cluttered-100`` 100 × 100  the same, among 8 pieces                         10
``pairs``         100 × 100  two digits apart, among 8 pieces                 55 unordered pairs
``addition``      100 × 100  two digits apart                                 19 sums
``sequences``     36 × 120   one to three digits from left to right,          10 a digit, then END
                             among 6 pieces
================  =======  =================================================  ===================

The first three are those of Mnih et al. 2014, the next two those of Ba et al. 2014; the last stands
in for house numbers.  Randomness is torch's, on the batch's device: each epoch draws anew, a
resumed run draws the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.data.columns import Batch, Columns
from inference.util import rng

PIECE = 8  # side of a piece of clutter
CANDIDATES = 16  # places drawn for a second digit; one that lies apart is taken
END = 10  # class after the last digit of a sequence
MOST = 3  # digits of a sequence


@dataclass(frozen=True)
class Task:
    """How a batch of single digits becomes a batch of canvases.

    Attributes:
        height, width: of the canvas.
        lay: digits x (B, h, w), labels (B,), canvas (B, H, W) → canvas, classes (B,) or (B, S).
        classes: number of them.
        pieces: of clutter.
        targets: S.
        end: the class that ends a sequence, if any.
    """

    height: int
    width: int
    lay: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    classes: int
    pieces: int = 0
    targets: int = 1
    end: int | None = None

    def __call__(self, batch: Batch) -> Batch:
        """Columns x (B, 1, h, w) and y (B,) of digits → x (B, 1, H, W) and y."""
        digits, labels = batch["x"][:, 0], batch["y"]
        canvas = digits.new_zeros(len(digits), self.height, self.width)
        for _ in range(self.pieces):
            paste(canvas, piece(digits), anywhere(canvas, PIECE))
        canvas, y = self.lay(digits, labels, canvas)
        return {"x": canvas[:, None], "y": y}


def one(digits: Tensor, labels: Tensor, canvas: Tensor) -> tuple[Tensor, Tensor]:
    """A digit anywhere."""
    return paste(canvas, digits, anywhere(canvas, digits.shape[-1])), labels


def two(digits: Tensor, labels: Tensor, canvas: Tensor) -> tuple[Tensor, Tensor]:
    """Two digits that do not overlap; their labels (B, 2)."""
    side = digits.shape[-1]
    partner = torch.randperm(len(digits), device=digits.device)
    first = anywhere(canvas, side)
    candidates = torch.stack([anywhere(canvas, side) for _ in range(CANDIDATES)])
    apart = ((candidates - first).abs() >= side).any(-1)
    chosen = apart.byte().argmax(0)
    second = candidates[chosen, torch.arange(len(digits), device=digits.device)]
    paste(canvas, digits, first)
    paste(canvas, digits[partner], second)
    return canvas, torch.stack([labels, labels[partner]], -1)


def pair(digits: Tensor, labels: Tensor, canvas: Tensor) -> tuple[Tensor, Tensor]:
    """Two digits; the class of the unordered pair a ≤ b is b (b + 1) / 2 + a."""
    canvas, both = two(digits, labels, canvas)
    a, b = both.amin(-1), both.amax(-1)
    return canvas, b * (b + 1) // 2 + a


def total(digits: Tensor, labels: Tensor, canvas: Tensor) -> tuple[Tensor, Tensor]:
    """Two digits and their sum."""
    canvas, both = two(digits, labels, canvas)
    return canvas, both.sum(-1)


def sequence(digits: Tensor, labels: Tensor, canvas: Tensor) -> tuple[Tensor, Tensor]:
    """One to ``MOST`` digits in as many columns, each shifted within its own; then ``END``."""
    batch, device, side = len(digits), digits.device, digits.shape[-1]
    column, height = canvas.shape[2] // MOST, canvas.shape[1]
    y = labels.new_full((batch, MOST + 1), END)
    count = torch.randint(1, MOST + 1, (batch,), device=device)
    begin = (torch.rand(batch, device=device) * (MOST + 1 - count)).long()
    for s in range(MOST):
        member = torch.randint(batch, (batch,), device=device)
        there = s < count
        row = torch.randint(height - side + 1, (batch,), device=device)
        shift = torch.randint(column - side + 1, (batch,), device=device)
        left = (begin + s).clamp(max=MOST - 1) * column + shift
        paste(canvas, digits[member] * there[:, None, None], torch.stack([row, left], -1))
        y[:, s] = labels[member].where(there, END)
    return canvas, y


TASKS = {
    "translated": Task(60, 60, one, 10),
    "cluttered": Task(60, 60, one, 10, pieces=4),
    "cluttered-100": Task(100, 100, one, 10, pieces=8),
    "pairs": Task(100, 100, pair, 55, pieces=8),
    "addition": Task(100, 100, total, 19),
    "sequences": Task(36, 120, sequence, 11, pieces=6, targets=MOST + 1, end=END),
}


def paste(canvas: Tensor, squares: Tensor, corners: Tensor) -> Tensor:
    """Lay squares (B, s, s) on canvases (B, H, W) at corners (B, 2); the brighter pixel stays."""
    steps = torch.arange(squares.shape[-1], device=canvas.device)
    datum = torch.arange(len(canvas), device=canvas.device)[:, None, None]
    rows, columns = (corners.unsqueeze(-1) + steps).unbind(-2)
    at = (datum, rows.unsqueeze(-1), columns.unsqueeze(-2))
    canvas[at] = torch.maximum(canvas[at], squares)
    return canvas


def piece(digits: Tensor) -> Tensor:
    """(B, PIECE, PIECE) cut anywhere from other digits of the batch (B, h, w)."""
    batch, device = len(digits), digits.device
    rows, columns = (
        anywhere(digits, PIECE).unsqueeze(-1) + torch.arange(PIECE, device=device)
    ).unbind(-2)
    other = torch.randint(batch, (batch,), device=device)[:, None, None]
    return digits[other, rows.unsqueeze(-1), columns.unsqueeze(-2)]


def anywhere(canvas: Tensor, side: int) -> Tensor:
    """(B, 2) corners, uniform among those where a square of this side lies within (B, H, W)."""
    batch, *size = canvas.shape
    places = (torch.randint(n - side + 1, (batch,), device=canvas.device) for n in size)
    return torch.stack(list(places), -1)


def fixed(digits: Columns, task: Task, seed: int) -> Columns:
    """One canvas for each digit, the same at every call: a test set."""
    with rng.forked(seed):
        return Columns(task(digits.rows(None)))
