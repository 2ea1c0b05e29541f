"""The differences between ArviZ 0.23 (Python 3.11) and 1.x (Python 3.12 and above)."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np


def arviz() -> ModuleType:
    """ArviZ, without the warning of 0.23 about its refactoring."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz as az
    return az


def psis_khat(log_weights: np.ndarray) -> np.ndarray:
    """(data,) Pareto k of importance weights (draws, data), for each datum."""
    az = arviz()
    if hasattr(az, "psislw"):  # 0.23: draws last
        return np.atleast_1d(az.psislw(log_weights.T.copy())[1])
    from arviz_stats.base import array_stats

    # 1.x takes log-likelihoods, whose leave-one-out weights are their negatives
    return np.atleast_1d(array_stats.psislw(-log_weights, axis=0)[1])
