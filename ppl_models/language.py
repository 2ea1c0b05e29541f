"""Scores of the next word: u_w · h(c) + b_w, after a few words (log-bilinear) or many (an LSTM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_SCALE = 0.1  # standard deviation of initial weights


class WordScores(nn.Module):
    """s(w | c) = u_w · h + b_w, for the given words alone, without a sum over the vocabulary.

    Args:
        bias: (V,) initial b; log-frequencies start training from the unigram model.
        width: D, of u_w and h.
        sparse: whether gradients are sparse, with rows of the given words alone.
    """

    def __init__(self, bias: Tensor, width: int, sparse: bool = False) -> None:
        super().__init__()
        self.sparse, self.first = sparse, bias.detach().clone()
        self.u = nn.Parameter(torch.empty(len(bias), width))
        self.b = nn.Parameter(torch.empty(len(bias), 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random u, and the initial b."""
        with torch.no_grad():
            self.u.normal_(0, INITIAL_SCALE)
            self.b.copy_(self.first[:, None])

    def forward(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        """(…, M) for h (…, D), see ``ppl_models.nce.Score``; (…, V) without words."""
        if words is None:
            return F.linear(h, self.u, self.b[:, 0])
        u = F.embedding(words, self.u, sparse=self.sparse)
        b = F.embedding(words, self.b, sparse=self.sparse).squeeze(-1)
        return products(h, u) + (b.unsqueeze(-2) if words.dim() < h.dim() else b)


def products(h: Tensor, u: Tensor) -> Tensor:
    """(…, M) u · h for h (…, D) and u (…, M, D).

    Where u has at most as many dimensions as h, its words are scored for many h by one matmul.
    """
    if u.dim() <= h.dim():
        return h @ u.mT
    return (u @ h.unsqueeze(-1)).squeeze(-1)


class LogBilinear(nn.Module):
    """h = Σ_i C_i ⊙ r(c_i), the next word's predicted vector: Mnih & Hinton 2007, C_i diagonal.

    Args:
        words: V.
        context: number of preceding words.
        width: D.
        sparse: as of ``WordScores``.
    """

    def __init__(self, words: int, context: int, width: int, sparse: bool = False) -> None:
        super().__init__()
        self.sparse = sparse
        self.r = nn.Parameter(torch.empty(words, width))
        self.C = nn.Parameter(torch.empty(context, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random r, and C the mean of the context."""
        with torch.no_grad():
            self.r.normal_(0, INITIAL_SCALE)
            self.C.fill_(1 / len(self.C))

    def forward(self, c: Tensor) -> Tensor:
        """(…, D) for the preceding words c (…, context), in order."""
        return (self.C * F.embedding(c, self.r, sparse=self.sparse)).sum(-2)


class Recurrent(nn.Module):
    """h_t of an LSTM after the row's words up to t, from a state of zeros.

    Args:
        words: V.
        width: D, of its words and its state.
        dropout: of words and states, in training (Zaremba et al. 2014).
        sparse: as of ``WordScores``.
    """

    def __init__(self, words: int, width: int, dropout: float = 0.0, sparse: bool = False) -> None:
        super().__init__()
        self.sparse = sparse
        self.r = nn.Parameter(torch.empty(words, width))
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random r; the LSTM's own initialisation."""
        with torch.no_grad():
            self.r.normal_(0, INITIAL_SCALE)

    def forward(self, c: Tensor) -> Tensor:
        """(B, T, D) for rows of words c (B, T)."""
        return self.read(c)[0]

    def read(
        self, c: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(h, the final state), to continue a text row after row."""
        words = self.dropout(F.embedding(c, self.r, sparse=self.sparse))
        h, state = self.lstm(words, state)
        return self.dropout(h), state
