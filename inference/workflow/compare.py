"""``compare``: differences of the runs' bounds, and their standard errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from inference.results import plots, traces
from inference.results.run import Run
from inference.util import tables
from inference.util.errors import UserError

FINAL_SHARE = 0.05  # of the steps, averaged for the final training bound


@dataclass(frozen=True)
class Row:
    """One run's row of the table.

    Attributes:
        name: the run.
        bound: final bound, nats per datum, mean over seeds.
        monte_carlo: standard error of that mean from the noise of the estimates.
        between_seeds: standard error of that mean from the spread of the seeds (nan for one),
            which contains the former.
        difference: to the best run's bound (0 for the best).
        difference_error: standard error of the difference.
        steps, seconds: until the level was reached, mean over seeds; nan where any did not.
        khat: median Pareto k of the guide, nan if it was not computed.
    """

    name: str
    bound: float
    monte_carlo: float
    between_seeds: float
    difference: float
    difference_error: float
    steps: float
    seconds: float
    khat: float


@dataclass(frozen=True)
class Comparison:
    """Runs side by side: ``rows``, ``table()``, ``plot(path)``, and ``tree`` with a ``run`` dim."""

    rows: Sequence[Row]
    tree: xr.DataTree
    level: float
    held_out: bool

    def table(self) -> Table:
        """A rich table, best run first."""
        kind = "held out" if self.held_out else f"training, last {FINAL_SHARE:.0%} of the steps"
        table = tables.new_table(
            f"bound, nats per datum ({kind})",
            ("run", "bound", "noise", "seeds", "gap", "±", "steps*", "s*", "k-hat"),
            "noise, seeds: standard errors, of the estimate and between seeds\n"
            f"* until the smoothed training bound first reached {self.level:.2f}",
        )
        for r in self.rows:
            cells = (r.bound, r.monte_carlo, r.between_seeds, r.difference, r.difference_error)
            table.add_row(
                r.name,
                *(_cell(c, 3) for c in cells),
                _cell(r.steps, 0),
                _cell(r.seconds, 1),
                _cell(r.khat, 2),
            )
        return table

    def plot(self, path: Path) -> None:
        """Plot the training ELBO against steps and against seconds; the band spans the seeds."""
        svi = self.tree["svi"].to_dataset()
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for name in svi["run"].to_numpy():
            run = svi.sel(run=name)
            values = plots.smooth(run["elbo"].to_numpy())
            clock = run["seconds"].mean("seed").to_numpy()
            plots.band(left, run["step"].to_numpy(), values, str(name))
            plots.band(right, clock, values, str(name))
        left.set(xlabel="step", ylabel="training ELBO, nats per datum")
        right.set(xlabel="seconds")
        for axis in (left, right):
            axis.axhline(self.level, color="0.6", lw=0.8, ls=":")
        plots.focus(left, svi["elbo"].to_numpy())
        left.legend(frameon=False)
        plots.save(figure, path)


def compare(
    runs: Mapping[str, Run | xr.DataTree | str | Path], level: float | None = None
) -> Comparison:
    """Compare the bounds of two or more runs.

    Held-out bounds are compared if every run has them (each seed's best), training bounds if not.
    Errors of a difference take the runs as independent; the seeds' spread is used where there
    are several, the Monte Carlo noise where there is one.

    Args:
        runs: name → run, tree, or the run's directory.
        level: bound whose time is reported, nats per datum; the worst final training bound unless
            given.

    Raises:
        UserError: fewer than two runs, runs without names, or a tree without group ``svi``.

    Example:
        >>> from functools import partial
        >>> import torch, pyro, pyro.distributions as dist
        >>> from inference import compare, fit
        >>> def model(x):
        ...     loc, scale = pyro.param("loc", torch.tensor(0.0)), torch.tensor(1.0)
        ...     with pyro.plate("data", 20, subsample=x):
        ...         pyro.sample("x", dist.Normal(loc, scale), obs=x)
        >>> run = lambda steps: fit(model, lambda x: None, {"x": torch.ones(20)}, steps=steps,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1), progress=False)
        >>> [row.name for row in compare({"short": run(2), "long": run(40)}).rows]
        ['long', 'short']
    """
    if not isinstance(runs, Mapping):
        raise UserError('the runs have no names: give a dict, compare({"a": a, "b": b})')
    if len(runs) < 2:
        raise UserError("give two or more runs to compare")
    trees = {name: _tree(name, run) for name, run in runs.items()}
    svi = {name: tree["svi"].to_dataset() for name, tree in trees.items()}
    held_out = all("held_out" in tree.children for tree in trees.values())
    training = {name: _training(group) for name, group in svi.items()}
    level = min(float(b.mean()) for b, _ in training.values()) if level is None else level
    finals = {n: _held_out(t) for n, t in trees.items()} if held_out else training
    best = max(finals, key=lambda n: finals[n][0].mean())
    rows = [
        _row(n, finals[n], finals[best], n == best, svi[n], level, _khat(trees[n])) for n in trees
    ]
    joined = {"svi": _concat(svi)}
    if held_out:
        joined["held_out"] = _concat({n: t["held_out"].to_dataset() for n, t in trees.items()})
    ordered = sorted(rows, key=lambda r: -r.bound)
    return Comparison(ordered, xr.DataTree.from_dict(joined), level, held_out)


def compare_directories(directories: Sequence[Path], out: Path, level: float | None = None) -> None:
    """Compare runs by directory: print the table, write comparison.png and comparison.nc."""
    names = [d.parent.name if d.name == "trace.nc" else d.name for d in directories]
    if len(set(names)) < len(names):
        names = [str(d) for d in directories]
    result = compare(dict(zip(names, directories, strict=True)), level)
    result.plot(out / "comparison.png")
    traces.write_trace(result.tree, out / "comparison.nc")
    console = Console()
    console.print(result.table())
    console.print(tables.plain(f"picture and tree: {out}"))


def _row(
    name: str,
    final: tuple[np.ndarray, np.ndarray],
    best: tuple[np.ndarray, np.ndarray],
    is_best: bool,
    svi: xr.Dataset,
    level: float,
    khat: float,
) -> Row:
    monte_carlo, between = _errors(final)
    steps, seconds = _time_to(svi, level)
    apart = 0.0 if is_best else math.hypot(_error(final), _error(best))
    difference = float(final[0].mean() - best[0].mean())
    bound = float(final[0].mean())
    return Row(name, bound, monte_carlo, between, difference, apart, steps, seconds, khat)


def _errors(final: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """(Monte Carlo, between seeds) standard errors of the mean over seeds."""
    bounds, errors = final
    seeds = len(bounds)
    monte_carlo = float(np.sqrt((errors**2).sum()) / seeds)
    return monte_carlo, float(bounds.std(ddof=1) / seeds**0.5) if seeds > 1 else math.nan


def _error(final: tuple[np.ndarray, np.ndarray]) -> float:
    monte_carlo, between = _errors(final)
    return monte_carlo if math.isnan(between) else between


def _training(svi: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Each seed's mean over its last steps, and that mean's standard error: (seeds,) each."""
    bounds, errors = [], []
    for values in svi["elbo"].to_numpy():
        values = values[np.isfinite(values)]
        window = values[-max(2, int(FINAL_SHARE * len(values))) :]
        bounds.append(window.mean())
        errors.append(window.std(ddof=1) / len(window) ** 0.5 if len(window) > 1 else math.nan)
    return np.array(bounds), np.array(errors)


def _held_out(tree: xr.DataTree) -> tuple[np.ndarray, np.ndarray]:
    """Each seed's best held-out bound and its standard error: (seeds,) each."""
    group = tree["held_out"].to_dataset()
    best = group.isel(step=group["elbo"].argmax("step"))
    return best["elbo"].to_numpy(), best["elbo_error"].to_numpy()


def _time_to(svi: xr.Dataset, level: float) -> tuple[float, float]:
    """Steps and seconds until the smoothed training ELBO first reaches the level."""
    reached = plots.smooth(svi["elbo"].to_numpy()) >= level
    if not reached.any(1).all():
        return math.nan, math.nan
    first = reached.argmax(1)
    seconds = svi["seconds"].to_numpy()[np.arange(len(first)), first]
    return float(svi["step"].to_numpy()[first].mean()), float(seconds.mean())


def _khat(tree: xr.DataTree) -> float:
    return float(tree["guide"]["khat"].median()) if "guide" in tree.children else math.nan


def _tree(name: str, run: Run | xr.DataTree | str | Path) -> xr.DataTree:
    if isinstance(run, Run):
        tree = run.trace
    else:
        tree = run if isinstance(run, xr.DataTree) else traces.read_trace(run)
    if "svi" not in tree.children:
        raise UserError(f"run {name!r} has no group 'svi': it was not written by fit")
    return tree


def _concat(groups: Mapping[str, xr.Dataset]) -> xr.Dataset:
    index = pd.Index(list(groups), name="run")
    return xr.concat(
        list(groups.values()), dim=index, join="outer", data_vars="all", combine_attrs="override"
    )


def _cell(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
