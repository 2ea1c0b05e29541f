"""The posterior uncertainty of word vectors against the words' frequencies."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from inference.recipes.contract import Figures
from inference.results import plots
from inference.results.report import Estimate

MIN_WORDS = 10  # fewest words for a correlation


def uncertainty_figures(counts: Tensor, scale: Tensor) -> Figures:
    """Spearman's ρ of counts (V,) and posterior standard deviations (V,); means at both ends.

    ρ's standard error is √((1 + ρ²/2) / (V − 3)) (1 − ρ²), Bonett & Wright 2000.  With fewer than
    ten words, or equal counts, there is no ρ.  Ties with the rarest tenth's largest count belong to
    the rarest tenth.
    """
    often, sd = counts.cpu().numpy(), scale.cpu().numpy()
    found: Figures = {
        "posterior sd, the rarest tenth": float(sd[often <= np.quantile(often, 0.1)].mean()),
        "posterior sd, the hundred most frequent": float(sd[:100].mean()),
    }
    if len(often) >= MIN_WORDS and often.min() < often.max():
        rho = float(spearmanr(often, sd).statistic)
        error = (1 - rho**2) * math.sqrt((1 + rho**2 / 2) / (len(often) - 3))
        found["count and posterior sd, Spearman's ρ"] = Estimate(rho, error)
    return found


def plot_uncertainty(counts: Tensor, scale: Tensor, path: Path) -> None:
    """Scatter plot of the words: count against the mean standard deviation of the vector."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.scatter(counts.cpu(), scale.cpu(), s=4, alpha=0.3, linewidths=0)
    axis.set_xscale("log")
    axis.set_xlabel("occurrences in the text")
    axis.set_ylabel("posterior standard deviation\n(mean over the vector's entries)")
    axis.set_title("the rarer a word, the less sure its vector")
    plots.save(figure, path)
