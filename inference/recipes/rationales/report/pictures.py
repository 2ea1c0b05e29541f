"""Accuracy and agreement with people against the share of words that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from inference.util.files import replacing


def curves(found: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw accuracy from the rationale alone, and word F1, ours and of random masks."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    percent = [100 * rate for rate in found["rate"]]
    styles = {"accuracy": ("C0", "-"), "F1": ("C1", "-"), "random F1": ("C1", ":")}
    names = {
        "accuracy": "accuracy from the kept words alone",
        "F1": "F1 with people's marks",
        "random F1": "F1 of random units",
    }
    for name, (color, style) in styles.items():
        axes.plot(percent, found[name], style, color=color, marker="o", ms=4, label=names[name])
    axes.set(xlabel="words kept, %", ylim=(0, 1), xlim=(0, 102))
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150, format="png")
    plt.close(figure)
