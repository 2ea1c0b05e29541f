"""Are ranks uniform on {0, …, L}?  A simultaneous band of their empirical distribution function.

At each of some points t the number of ranks below t is Binomial(S, t / (L + 1)); the statistic is
the least of their two-sided tail probabilities, and its null distribution is simulated, so that the
test has its level for any S and L (Säilynoja, Bürkner & Vehtari 2022, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

POINTS = 50  # at most, of the distribution function
REPLICATES = 20_000  # of the null distribution


@dataclass(frozen=True)
class Band:
    """Where the distribution function of S uniform ranks lies.

    Attributes:
        points: (T,) t, numbers of ranks 0, …, t − 1.
        tails: (T, S + 1) two-sided tail probability of each count.
        null: (REPLICATES,) sorted, the statistic of uniform ranks.
        draws: L.
    """

    points: np.ndarray
    tails: np.ndarray
    null: np.ndarray
    draws: int

    @classmethod
    def of(cls, simulations: int, draws: int) -> Band:
        """For S simulations with L draws each."""
        points = np.unique(np.linspace(1, draws, min(draws, POINTS)).round().astype(int))
        tails = _tails(simulations, points / (draws + 1))
        cells = np.diff(points, prepend=0, append=draws + 1) / (draws + 1)
        counts = np.random.default_rng(0).multinomial(simulations, cells, size=REPLICATES)
        null = _least(tails, counts[:, :-1].cumsum(1))
        return cls(points, tails, np.sort(null), draws)

    def p_value(self, ranks: np.ndarray) -> float:
        """The probability that uniform ranks are as far from uniform as these (S,)."""
        return float(self._p_of(_least(self.tails, self.counts(ranks)[None]))[0])

    def counts(self, ranks: np.ndarray) -> np.ndarray:
        """(T,) how many of the ranks are below each point."""
        return (ranks[:, None] < self.points).sum(0)

    def limits(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """(T,) the least and the largest share of ranks below each point inside of the band."""
        allowed = self._p_of(self.tails) >= level
        size = allowed.shape[1] - 1
        return allowed.argmax(1) / size, 1 - allowed[:, ::-1].argmax(1) / size

    def _p_of(self, statistic: np.ndarray) -> np.ndarray:
        """The probability that that of uniform ranks is as small."""
        extreme = np.searchsorted(self.null, statistic * (1 + 1e-9), side="right")
        return (1 + extreme) / (1 + REPLICATES)


def _tails(simulations: int, shares: np.ndarray) -> np.ndarray:
    """(T, S + 1) min(1, 2 min(P(X ≤ c), P(X ≥ c))) of X ~ Binomial(S, share)."""
    probs = torch.as_tensor(shares, dtype=torch.float64)[:, None]
    counts = torch.arange(simulations + 1, dtype=torch.float64)
    mass = torch.distributions.Binomial(simulations, probs).log_prob(counts).exp().numpy()
    below, above = mass.cumsum(1), mass[:, ::-1].cumsum(1)[:, ::-1]
    return np.minimum(1.0, 2 * np.minimum(below, above))


def _least(tails: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(R,) the least tail probability of counts (R, T)."""
    return tails[np.arange(len(tails)), counts].min(1)
