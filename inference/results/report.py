"""A run's figures as a table for the terminal and as plain numbers for a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from rich.table import Table
from torch import Tensor

from inference.util import tables


class Estimate(NamedTuple):
    """A figure and its standard error (nan where there is none)."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """Mean over data (N,) and its standard error."""
        v = values.double()
        error = v.std() / len(v) ** 0.5 if len(v) > 1 else v.new_tensor(np.nan)
        return cls(float(v.mean()), float(error))


def estimated(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures, each tensor over data as its mean and standard error."""
    return {n: Estimate.of(v) if isinstance(v, Tensor) else v for n, v in figures.items()}


def over_seeds(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of one seed; of several, their mean with the standard error between seeds."""
    first, *others = [estimated(figures) for figures in found]
    if not others:
        return first
    means = {name: [value_of(figures[name]) for figures in (first, *others)] for name in first}
    return {
        f"{name}, {len(found)} seeds": Estimate.of(torch.tensor(each))
        for name, each in means.items()
    }


def value_of(figure: Estimate | float) -> float:
    """The figure without its error."""
    return figure.value if isinstance(figure, Estimate) else figure


def plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as JSON types: a tensor over data becomes its mean and standard error."""
    rows: dict[str, Any] = {}
    for name, value in estimated(figures).items():
        if isinstance(value, Estimate):
            mean, error = value
            rows[name] = {"mean": mean, "standard_error": None if np.isnan(error) else error}
        else:
            rows[name] = value
    return rows


def figure_table(tree: xr.DataTree, figures: Mapping[str, Any], directory: Path | None) -> Table:
    """A rich table of the final bounds (means over seeds and the last steps) and the figures."""
    svi = tree["svi"].to_dataset()
    seeds, steps = svi.sizes["seed"], svi.sizes["step"]
    title = f"{directory or 'run'}: {steps} steps of {seeds} seed{'s' * (seeds > 1)}"
    table = tables.new_table(title, ("figure", "value", "± standard error"))
    last = svi.isel(step=slice(-max(1, svi.sizes["step"] // 20), None)).mean()
    for name in svi:
        if svi[name].attrs.get("units") == "nats per datum":
            table.add_row(f"{name}, training, nats per datum", f"{float(last[name]):.3f}", "")
    if "held_out" in tree.children:
        held_out = tree["held_out"].to_dataset()
        best = held_out.isel(step=int(held_out["elbo"].mean("seed").argmax("step"))).mean()
        table.add_row(
            "elbo, held out, nats per datum",
            f"{float(best['elbo']):.3f}",
            f"{float(best['elbo_error']):.3f}",
        )
    for name, value in estimated(figures).items():
        if isinstance(value, Estimate):
            mean, error = value
            table.add_row(name, f"{mean:.3f}", f"{error:.3f}")
        else:
            table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value), "")
    if notes := [svi.attrs[name] for name in ("chosen", "stopped") if name in svi.attrs]:
        table.caption = tables.plain("\n".join(notes))
    return table
