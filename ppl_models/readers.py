"""Texts as vectors of their units (tokens or sentences), none of which sees another unit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

PRIME = 1_000_003  # of the hash of two neighbouring words
Encoder = Callable[[int, int], nn.Module]  # (features in, features out) → (…, L, in) to (…, L, out)


class Reader(nn.Module):
    """Units (…, B, U, W) of words, 0 for padding, as the means (…, B, U, width) of their words.

    What is between the words of a unit is read by ``encoder``, and by vectors for pairs of
    neighbours, which share ``buckets`` rows.  A unit's vector depends on that unit alone, so that
    whoever is shown some units sees nothing of the others.

    Args:
        vectors: (V, E) initial vectors of the words, row 0 the padding's.
        width: of a unit's vector.
        encoder: of the words in a unit.
        buckets: rows of the table of pairs; 0 for none.
        dropout: of the words' vectors, in training.
        frozen: keep the words' vectors as they are.
    """

    words: Tensor

    def __init__(
        self,
        vectors: Tensor,
        width: int,
        encoder: Encoder,
        buckets: int = 0,
        dropout: float = 0.0,
        *,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        size = vectors.shape[-1]
        if frozen:
            self.register_buffer("words", vectors)
        else:
            self.words = nn.Parameter(vectors)
        self.pairs = nn.Embedding(buckets + 1, size, padding_idx=0) if buckets else None
        if self.pairs is not None:
            nn.init.zeros_(self.pairs.weight)
        self.encoder, self.buckets = encoder(size, width), buckets
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(vectors (B, U, width), whether a unit exists (B, U)) of words x (B, U, W)."""
        there = x > 0
        words = nn.functional.embedding(x, self.words, padding_idx=0)
        if self.pairs is not None:
            words = words + self.pairs(pairs(x, self.buckets))
        read = self.encoder(self.dropout(words), there)
        return mean_of(read, there), there.any(-1)


def mean_of(x: Tensor, weight: Tensor) -> Tensor:
    """(…, F) the mean of x (…, L, F) by weights (…, L) in [0, 1]; 0 where all weights are."""
    total = (x * weight.unsqueeze(-1)).sum(-2)
    return total / weight.sum(-1, keepdim=True).clamp(min=1)


def pairs(x: Tensor, buckets: int) -> Tensor:
    """(…, W) the row, from 1 on, of each word with its right neighbour; 0 where there is none."""
    left, right = x[..., :-1].long(), x[..., 1:].long()
    rows = (left * PRIME + right) % buckets + 1
    return nn.functional.pad(torch.where((left > 0) & (right > 0), rows, 0), (0, 1))


class Bag(nn.Module):
    """Each element for itself: tanh of an affine map."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.affine = nn.Linear(features, width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(…, L, features) → (…, L, width); valid (…, L) is not needed."""
        return torch.tanh(self.affine(x))


class Convolution(nn.Module):
    """Each element with its neighbours: ReLU of a convolution of length 5."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.convolve = nn.Conv1d(features, width, 5, padding=2)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(…, L, features) → (…, L, width); what is not valid (…, L) is read as 0."""
        rows = (x * valid.unsqueeze(-1)).flatten(0, -3).transpose(-1, -2)
        return torch.relu(self.convolve(rows)).transpose(-1, -2).unflatten(0, x.shape[:-2])


class Recurrent(nn.Module):
    """Each element with all before it and all after it, read by two LSTMs."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(features, width // 2, batch_first=True)
        self.back = nn.LSTM(features, width - width // 2, batch_first=True)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(…, L, features) → (…, L, width); valid (…, L) is False at padding, which is last."""
        rows = x.flatten(0, -3)
        there = valid.expand(x.shape[:-1]).flatten(0, -2)
        onward, _ = self.onward(rows)
        back, _ = self.back(turned(rows, there))
        both = torch.cat([onward, turned(back, there)], -1)
        return both.unflatten(0, x.shape[:-2])


def turned(x: Tensor, valid: Tensor) -> Tensor:
    """(N, L, F) with the first n of each row in reverse, and the padding where it was."""
    place = torch.arange(x.shape[1], device=x.device)
    mirrored = torch.where(valid, valid.sum(-1, keepdim=True) - 1 - place, place)
    return x.gather(1, mirrored.unsqueeze(-1).expand(x.shape))
