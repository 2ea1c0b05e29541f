"""Rank-sum tests of two samples, number by number: exact under exchange, whatever the tails."""

import numpy as np
from scipy.stats import rankdata

GRAIN = 1e-9  # relative; numbers that differ by rounding alone are tied


def rank_sum(both: np.ndarray) -> np.ndarray:
    """(P,) z of the first half's ranks among all (2 S, P), ties shared; 0 where all are tied."""
    grain = np.abs(both).max(axis=0, keepdims=True) * GRAIN + 1e-300
    ranks = rankdata(np.round(both / grain), axis=0)
    half = len(both) // 2
    deviation = ranks.std(axis=0, ddof=1) * np.sqrt(half / 2)
    gap = ranks[:half].sum(axis=0) - half * (len(both) + 1) / 2
    return np.divide(gap, deviation, out=np.zeros_like(gap), where=deviation > 0)


def spread(both: np.ndarray) -> np.ndarray:
    """(2 S, P) distances from the median of all draws together: exchangeable, as the draws are."""
    return np.abs(both - np.median(both, axis=0))
