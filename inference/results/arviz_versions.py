"""The differences between ArviZ 0.23 (Python 3.11) and 1.x (Python 3.12 and above)."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr

GROUPS = ("posterior", "posterior_predictive", "log_likelihood", "observed_data")


def arviz() -> ModuleType:
    """ArviZ, without the warning of 0.23 about its refactoring."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz as az
    return az


def inference_data(tree: xr.DataTree) -> Any:
    """ArviZ's groups of a trace, as the object that the installed ArviZ works with."""
    az = arviz()
    chosen = {name: tree[name].to_dataset() for name in GROUPS if name in tree.children}
    if not az.__version__.startswith("0."):
        return xr.DataTree.from_dict(chosen)
    return az.InferenceData(**chosen)


def psis_khat(log_weights: np.ndarray) -> np.ndarray:
    """(data,) Pareto k of importance weights (draws, data), for each datum."""
    az = arviz()
    if hasattr(az, "psislw"):  # 0.23: draws last
        return np.atleast_1d(az.psislw(log_weights.T.copy())[1])
    from arviz_stats.base import array_stats

    # 1.x takes log-likelihoods, whose leave-one-out weights are their negatives
    return np.atleast_1d(array_stats.psislw(-log_weights, axis=0)[1])
