"""Skip-gram: each word is asked which words stand within a window around it.

Mikolov et al. 2013, as a classifier of data and noise (``ppl_models.nce``).  A window's half-width
is uniform on 1 … W, so that a neighbour at distance d is counted with probability (W + 1 − d) / W:
here it counts by so much, the expectation in place of a draw.

Rows are stretches of text.  All words of a row are scored beside each other, and beside the row's
noise, by one matrix product; its diagonals are the windows.  So a word's vectors are fetched once,
not once for each pair.
"""

from __future__ import annotations

import torch
from pyro import poutine
import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_models.language import products
from ppl_models.nce import Contrast


class WordVectors(nn.Module):
    """A vector for each of V words.

    Args:
        words: V.
        width: D.
        spread: first entries are uniform on ±spread.
        sparse: gradients hold the rows of the words asked for, and nothing of the others.
    """

    def __init__(self, words: int, width: int, spread: float = 0.0, sparse: bool = True) -> None:
        super().__init__()
        self.spread, self.sparse = spread, sparse
        self.vectors = nn.Parameter(torch.empty(words, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random numbers, or zeros."""
        with torch.no_grad():
            self.vectors.uniform_(-self.spread, self.spread)

    def forward(self, words: Tensor | None = None) -> Tensor:
        """(…, D) those of the words (…,), or all of them (V, D)."""
        if words is None:
            return self.vectors
        return F.embedding(words, self.vectors, sparse=self.sparse)


class Products(nn.Module):
    """s(w | c) = u_c · v_w.

    Args:
        vectors: words → v.
    """

    def __init__(self, vectors: nn.Module) -> None:
        super().__init__()
        self.vectors = vectors

    def forward(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        """(…, M) for h = u_c (…, D), see ``ppl_models.nce.Score``; (…, V) without words."""
        return products(h, self.vectors(words))


class SkipGram(PyroModule):
    """Every word c of a row, and for each c the words of its window: data or noise?

    Args:
        contrast: encode: c → u_c, score: (u_c, w) → s(w | c), and how these are compared.
        window: W, its greatest half-width.
    """

    def __init__(self, contrast: Contrast, window: int) -> None:
        super().__init__()
        self.contrast, self.window = contrast, window
        distance = torch.arange(-window, window + 1).abs()
        self.taper: Tensor
        self.register_buffer("taper", (window + 1 - distance) / window * (distance > 0))

    def forward(self, words: Tensor, sentence: Tensor, noise: Tensor) -> None:
        """Rows of C words with W before and W after, and sites "data", "noise" of ``Contrast``.

        Args:
            words: (B, W + C + W), the text.
            sentence: (B, W + C + W) the number of each word's sentence, which no window leaves.
            noise: (B, M) words drawn from q, beside each of the row's.
        """
        W, asked = self.window, self.contrast
        inner = slice(W, words.shape[-1] - W)
        with pyro.plate("rows", asked.size, subsample=words, dim=-3):
            u = asked.encode(words[:, inner])
            logits = asked.logit(u, torch.cat([words, noise], -1))
            data, beside = logits.split([words.shape[-1], noise.shape[-1]], -1)
            same = sentence.unfold(-1, 2 * W + 1, 1) == sentence[:, inner, None]
            asked.compare(windows(data, W), beside, self.taper * same)


def windows(square: Tensor, width: int) -> Tensor:
    """(…, C, 2W + 1) for (…, C, W + C + W): of row i the columns i … i + 2W, diagonals upright."""
    places = torch.arange(square.shape[-2], device=square.device)[:, None]
    places = places + torch.arange(2 * width + 1, device=square.device)
    return square.gather(-1, places.expand(*square.shape[:-2], *places.shape))
