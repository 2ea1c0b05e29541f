"""How sure a guide is of words, beside how often they occur: figures by hand."""

import math

import pytest
import torch

from inference.recipes.words.report.beliefs import uncertainty_figures

COUNTS = torch.arange(200, 0, -1) * 5
SD = torch.linspace(0.1, 0.9, 200)


def test_the_figures():
    """The rarest tenth are twenty words of two hundred; ρ is 1 − 6 Σ d² / (n³ − n)."""
    sd = SD.roll(20)
    found = uncertainty_figures(COUNTS, sd)
    square = (sd.argsort().argsort() - torch.arange(199, -1, -1)).double().square().sum()
    rho = float(1 - 6 * square / (200**3 - 200))
    name = "count and posterior sd, Spearman's ρ"
    assert found[name].value == pytest.approx(rho)
    assert found[name].error == pytest.approx(spread(rho), rel=0.1)
    assert found["posterior sd, the rarest tenth"] == pytest.approx(float(sd[-20:].mean()))
    assert found["posterior sd, the hundred most frequent"] == pytest.approx(float(sd[:100].mean()))


def spread(rho):
    """Standard deviation of ρ of 200 pairs of normal numbers so correlated; 2,000 draws."""
    from scipy.stats import spearmanr

    pairs = torch.randn(2000, 2, 200)
    r = 2 * math.sin(math.pi * rho / 6)
    pairs[:, 1] = r * pairs[:, 0] + math.sqrt(1 - r**2) * pairs[:, 1]
    return float(torch.tensor([spearmanr(*p.numpy()).statistic for p in pairs]).std())


@pytest.mark.parametrize("counts", [COUNTS[:9], torch.full((20,), 5)])
def test_no_correlation_of_nothing(counts):
    found = uncertainty_figures(counts, SD[: len(counts)])
    assert [name for name in found if "Spearman" in name] == []
    assert found["posterior sd, the rarest tenth"] > 0
