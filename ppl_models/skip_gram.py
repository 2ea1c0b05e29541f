"""Skip-gram: predict the words in a window around each word.

Mikolov et al. 2013, as a classifier of data and noise (``ppl_models.nce``).  A window's half-width
is uniform on 1 … W, so that a neighbour at distance d is included with probability (W + 1 − d) / W:
here that is its weight, the expectation in place of a draw.

Rows are consecutive words of text.  All words of a row are scored against each other, and against
the row's noise, by one matrix product whose diagonals are the windows: a word's vectors are looked
up once, not once for each pair.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_models.language import products
from ppl_models.nce import Contrast


class WordVectors(nn.Module):
    """A vector for each of V words, as a parameter.

    Args:
        words: V.
        width: D.
        spread: initial entries are uniform on ±spread.
    """

    def __init__(self, words: int, width: int, spread: float = 0.0) -> None:
        super().__init__()
        self.spread = spread
        self.table = nn.Parameter(torch.empty(words, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random numbers, or zeros."""
        with torch.no_grad():
            self.table.uniform_(-self.spread, self.spread)

    def forward(self, words: Tensor | None = None) -> Tensor:
        """(…, D) vectors of the words (…,); without words, all (V, D)."""
        return self.table if words is None else F.embedding(words, self.table, sparse=True)


class GaussianVectors(PyroModule):
    """A latent vector for each of V words: v_w ~ N(0, I/√D), so that a score has variance 1.

    Each occurrence of a word has its own draw.  The ELBO is the same as if all occurrences shared
    one draw, Σ_pairs E_q log p(y | u_c, v_w) − Σ_w KL(q(v_w) ‖ p(v_w)), because every term has one
    u and one v, provided that a word's KL is divided among its occurrences: each is scaled by
    1/n_w.  (A term of ``nce.Ranking`` has several v; two of the same word are drawn separately.)

    Args:
        name: the site's.
        width: D.
        places: (V,) n_w, the expected number of occurrences of each word in an epoch.
    """

    def __init__(self, name: str, width: int, places: Tensor) -> None:
        super().__init__()
        self.name, self.width, self.scale = name, width, width**-0.25
        self.share: Tensor
        self.register_buffer("share", places.reciprocal())

    def forward(self, words: Tensor) -> Tensor:
        """(B, M, D) for words (B, M), within the plate of their rows; so is the guide's site."""
        prior = dist.Normal(torch.zeros_like(self.share[0]), self.scale)
        return self.sample(words, prior.expand([self.width]))

    def sample(self, words: Tensor, vector: TorchDistribution) -> Tensor:
        """(B, M, D) draws of a distribution (D,) or (B, 1, M, D) for each occurrence."""
        places = pyro.plate(f"{self.name}_places", words.shape[-1], dim=-1)
        with places, poutine.scale(scale=self.share[words].unsqueeze(-2)):
            return pyro.sample(self.name, vector.to_event(1)).squeeze(-3)


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
    """Classifies, for every word c of a row, the words of its window as data, noise words as noise.

    Args:
        contrast: the objective; its encode is c → u_c, its score (u_c, w) → s(w | c).
        window: W, the greatest half-width.
    """

    def __init__(self, contrast: Contrast, window: int) -> None:
        super().__init__()
        self.contrast, self.window = contrast, window
        distance = torch.arange(-window, window + 1).abs()
        self.taper: Tensor
        self.register_buffer("taper", (window + 1 - distance) / window * (distance > 0))

    def forward(self, words: Tensor, sentence: Tensor, noise: Tensor) -> None:
        """Sites "data" and "noise" of the contrast, for rows of C words.

        Args:
            words: (B, W + C + W), the row's words, with W more on either side.
            sentence: (B, W + C + W) the sentence of each word; windows end at sentence boundaries.
            noise: (B, M) words drawn from q, shared by all words of the row.
        """
        ask, W = self.contrast, self.window
        with pyro.plate("rows", ask.size, subsample=words, dim=-3):
            u = ask.encode(inner(words, W))
            logits = ask.logit(u, torch.cat([words, noise], -1))
            text, beside = logits.split([words.shape[-1], noise.shape[-1]], -1)
            near = sentence.unfold(-1, 2 * W + 1, 1) == inner(sentence, W).unsqueeze(-1)
            ask.observe(windows(text, W), beside, self.taper * near)


def inner(row: Tensor, width: int) -> Tensor:
    """(…, C) the inner part of (…, W + C + W)."""
    return row[..., width : row.shape[-1] - width]


def windows(square: Tensor, width: int) -> Tensor:
    """(…, C, 2W + 1) of (…, C, W + C + W): columns i … i + 2W of row i."""
    rows = torch.arange(square.shape[-2], device=square.device)
    columns = rows.unsqueeze(-1) + torch.arange(2 * width + 1, device=square.device)
    return square.gather(-1, columns.expand(*square.shape[:-2], *columns.shape))
