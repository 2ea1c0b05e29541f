"""The README's picture, of what ``make demo`` left.

python -m benchmarks.estimators runs/demo docs/estimators.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from inference.results import plots, traces

COLOURS = {"ScoreFunction": "C3", "LeaveOneOut": "C0", "DisARM": "C2", "GumbelSoftmax": "0.6"}


def training(axis: Axes, runs: Path) -> None:
    """The bound against steps; the relaxed one, which is another, is dashed."""
    for name, colour in COLOURS.items():
        svi = traces.read_trace(runs / name)["svi"].to_dataset()
        values = plots.smooth(svi["elbo"].to_numpy()).mean(0)
        relaxed = svi.attrs["bound"] != "ELBO"
        label = f"{name} (its own, relaxed bound)" if relaxed else name
        style = "--" if relaxed else "-"
        axis.plot(svi["step"].to_numpy(), values, style, color=colour, label=label)
    axis.set(xlabel="step", ylabel="training ELBO, nats per image", ylim=(-30.5, -23.5))
    axis.set_title("fit: four estimators on one program")
    axis.legend(frameon=False, loc="lower right")


def audited(axis: Axes, found: xr.Dataset) -> None:
    """Effort of each estimator, least at the top, and the bias where one was seen."""
    last = found.isel(step=-1)
    effort = last["effort"].to_numpy()
    seen = (last["worst_z"] > last["critical"]).to_numpy()
    names = [str(name) for name in last["estimator"].to_numpy()]
    for place, i in enumerate(np.argsort(-effort)):
        axis.barh(place, effort[i], color=COLOURS[names[i].partition(":")[0]])
        says = f" biased by {100 * float(last['bias'][i]):.0f} %" if seen[i] else ""
        axis.text(
            effort[i], place, f" {effort[i]:.{0 if effort[i] > 10 else 1}f}{says}", va="center"
        )
    axis.set_yticks(range(len(names)), [names[i] for i in np.argsort(-effort)])
    axis.set(xscale="log", xlim=(0.1, 6 * effort.max()), xlabel="E‖g‖² × milliseconds")
    axis.set_title("audit: what training takes, and at which bias")


def main(demo: str, path: str) -> None:
    """Draw both, side by side."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    training(left, Path(demo) / "sbn")
    audited(right, traces.read_trace(Path(demo) / "audited" / "audit.nc")["audit"].to_dataset())
    plots.save(figure, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
