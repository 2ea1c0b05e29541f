"""How sure a guide is of words, beside how often they occur: figures by hand."""

import pytest
import torch

from inference.word_beliefs import figures

COUNTS = torch.arange(200, 0, -1) * 5
SD = torch.linspace(0.1, 0.9, 200)


def test_the_figures():
    """The rarest tenth are twenty words of two hundred; ρ is 1 − 6 Σ d² / (n³ − n)."""
    sd = SD.roll(1)
    found = figures(COUNTS, sd)
    square = (sd.argsort().argsort() - torch.arange(199, -1, -1)).double().square().sum()
    rho = float(1 - 6 * square / (200**3 - 200))
    name = "count and posterior sd, Spearman's ρ"
    assert found[name].value == pytest.approx(rho)
    assert found[f"{name}, 95 % from"] < rho < found[f"{name}, 95 % to"] < 0
    assert found["posterior sd, the rarest tenth"] == pytest.approx(float(sd[-20:].mean()))
    assert found["posterior sd, the hundred most frequent"] == pytest.approx(float(sd[:100].mean()))


@pytest.mark.parametrize("counts", [COUNTS[:9], torch.full((20,), 5)])
def test_no_correlation_of_nothing(counts):
    found = figures(counts, SD[: len(counts)])
    assert [name for name in found if "Spearman" in name] == []
    assert found["posterior sd, the rarest tenth"] > 0
