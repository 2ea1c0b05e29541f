"""``compare``: differences of the runs' bounds, and their standard errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from inference.results import plots, traces
from inference.results.evaluate import importance_weighted_bound
from inference.results.run import Run
from inference.util import tables
from inference.util.errors import UserError

FINAL_SHARE = 0.05  # of the steps, averaged for the final training bound
UNRANKED = (
    "\nbounds of different kinds or data, not ranked: --under ELBO (in Python under=) estimates "
    "one of all"
)
Final = tuple[np.ndarray, np.ndarray]  # each seed's bound, and its standard error: (seeds,) each


@dataclass(frozen=True)
class Row:
    """One run's row of the table.

    Attributes:
        name: the run.
        kind: which bound it is ("ELBO", "L_5", …), with the data's hash where runs differ in it.
        bound: final bound, nats per datum, mean over seeds.
        monte_carlo: standard error of that mean from the noise of the estimates.
        between_seeds: standard error of that mean from the spread of the seeds (nan for one),
            which contains the former.
        difference: to the best run's bound (0 for the best); nan if kinds differ.
        difference_error: standard error of the difference.
        steps, seconds: until the level was reached, mean over seeds; nan where any did not.
        khat: median Pareto k of the guide, nan if it was not computed.
    """

    name: str
    kind: str
    bound: float
    monte_carlo: float
    between_seeds: float
    difference: float
    difference_error: float
    steps: float
    seconds: float
    khat: float


@dataclass(frozen=True, repr=False)
class Comparison(tables.ShownAsTables):
    """Runs side by side: ``rows``, ``table()``, ``plot(path)``, and ``tree`` with a ``run`` dim."""

    rows: Sequence[Row]
    tree: xr.DataTree
    level: float
    held_out: bool
    ranked: bool = True

    def table(self) -> Table:
        """A rich table, best run first; in the order given where bounds are of different kinds."""
        data = "held out" if self.held_out else f"training, last {FINAL_SHARE:.0%} of the steps"
        table = tables.new_table(
            f"bound, nats per datum ({data})",
            ("run", "of", "bound", "noise", "seeds", "gap", "±", "steps*", "s*", "k-hat"),
            "noise, seeds: standard errors, of the estimate and between seeds\n"
            f"* until the smoothed training bound first reached {self.level:.2f}"
            + ("" if self.ranked else UNRANKED),
        )
        for r in self.rows:
            cells = (r.bound, r.monte_carlo, r.between_seeds, r.difference, r.difference_error)
            table.add_row(
                r.name,
                r.kind,
                *(_cell(c, 3) for c in cells),
                _cell(r.steps, 0),
                _cell(r.seconds, 1),
                _cell(r.khat, 2),
            )
        return table

    def tables(self) -> list[Table]:
        """The one that is shown."""
        return [self.table()]

    def plot(self, path: str | Path) -> None:
        """Plot training bounds against steps and against seconds; the band spans the seeds.

        Where runs are trained on different bounds, the legend says on which.
        """
        svi = self.tree["svi"].to_dataset()
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        several = len(np.unique(svi["bound"])) > 1
        for name in svi["run"].to_numpy():
            run = svi.sel(run=name)
            label = f"{name}, of its {run['bound'].item()}" if several else str(name)
            values = plots.smooth(run["elbo"].to_numpy())
            clock = run["seconds"].mean("seed").to_numpy()
            plots.band(left, run["step"].to_numpy(), values, label)
            plots.band(right, clock, values, label)
        ylabel = "training bound" if several else f"training {svi['bound'].values[0]}"
        left.set(xlabel="step", ylabel=f"{ylabel}, nats per datum")
        right.set(xlabel="seconds")
        for axis in (left, right):
            axis.axhline(self.level, color="0.6", lw=0.8, ls=":")
        plots.focus(left, svi["elbo"].to_numpy())
        left.legend(frameon=False)
        plots.save(figure, path)


def compare(
    runs: Mapping[str, Run | xr.DataTree | str | Path],
    level: float | None = None,
    under: str | None = None,
) -> Comparison:
    """Compare the bounds of two or more runs.

    Held-out bounds are compared if every run has them (each seed's best), training bounds if not.
    Runs are ranked if their bounds are of one kind (ELBO, L_K) and of the same data.
    Errors of a difference take the runs as independent; the seeds' spread is used where there
    are several, the Monte Carlo noise where there is one.

    Args:
        runs: name → run, tree, or the run's directory.
        level: bound whose time is reported, nats per datum; the worst final training bound unless
            given.
        under: "ELBO" or "L_K", such as "L_100": estimate this bound of every run's held-out data
            by its trained programs; of a directory, the run is loaded (``Run.load``).  It is that
            of these rows as a data set of their own: the KL of a latent that all rows share is
            theirs alone, while a held-out bound in a trace charges it to all N rows of the plate.

    Raises:
        UserError: fewer than two runs, runs without names, a tree without group ``svi``; or, with
            ``under``, a run without programs or held-out data.

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
    if under is not None:
        runs = {name: _loaded(name, run) for name, run in runs.items()}
    trees = {name: _tree(name, run) for name, run in runs.items()}
    svi = {name: tree["svi"].to_dataset() for name, tree in trees.items()}
    held_out = all("held_out" in tree.children for tree in trees.values())
    training = {name: _training(group) for name, group in svi.items()}
    level = min(float(b.mean()) for b, _ in training.values()) if level is None else level
    finals = {n: _held_out(t) for n, t in trees.items()} if held_out else training
    kinds = _kinds(trees, "held_out" if held_out or under else "svi", under)
    if under is not None:
        finals = {name: _estimated(name, run, under) for name, run in runs.items()}
    ranked = len(set(kinds.values())) == 1
    best = max(finals, key=lambda n: finals[n][0].mean()) if ranked else None
    rows = [
        _row(
            n,
            kinds[n],
            finals[n],
            None if best is None else finals[best],
            n == best,
            svi[n],
            level,
            trees[n],
        )
        for n in trees
    ]
    trained_on = [str(group.attrs.get("bound", "unknown")) for group in svi.values()]
    joined = {"svi": _concat(svi).assign_coords(bound=("run", trained_on))}
    if held_out:
        joined["held_out"] = _concat({n: t["held_out"].to_dataset() for n, t in trees.items()})
    ordered = sorted(rows, key=lambda r: -r.bound) if ranked else rows
    shown = held_out or under is not None
    return Comparison(ordered, xr.DataTree.from_dict(joined), level, shown, ranked)


def compare_directories(
    directories: Sequence[Path],
    out: Path,
    level: float | None = None,
    under: str | None = None,
    recipe: str | None = None,
) -> None:
    """Compare runs by directory: print the table, write comparison.png and comparison.nc."""
    names = [d.parent.name if d.name == "trace.nc" else d.name for d in directories]
    if len(set(names)) < len(names):
        names = [str(d) for d in directories]
    runs: dict[str, Any] = dict(zip(names, directories, strict=True))
    if recipe is not None:
        runs = {name: Run.load(directory, recipe=recipe) for name, directory in runs.items()}
    result = compare(runs, level, under)
    result.plot(out / "comparison.png")
    traces.write_trace(result.tree, out / "comparison.nc")
    console = Console()
    console.print(result.table())
    console.print(tables.plain(f"picture and tree: {out}"))


def _row(
    name: str,
    kind: str,
    final: Final,
    best: Final | None,
    is_best: bool,
    svi: xr.Dataset,
    level: float,
    tree: xr.DataTree,
) -> Row:
    monte_carlo, between = _errors(final)
    bound, time = float(final[0].mean()), _time_to(svi, level)
    apart = 0.0 if is_best else math.nan
    if best is not None and not is_best:
        apart = math.hypot(_error(final), _error(best))
    difference = math.nan if best is None else bound - float(best[0].mean())
    return Row(name, kind, bound, monte_carlo, between, difference, apart, *time, _khat(tree))


def _kinds(trees: Mapping[str, xr.DataTree], group: str, under: str | None) -> dict[str, str]:
    """Run → its bound, with the start of its data's hash where runs differ in their data."""
    found = {
        name: tree[group].attrs if group in tree.children else {} for name, tree in trees.items()
    }
    several = len({attrs.get("data") for attrs in found.values()}) > 1
    return {
        name: (under or str(attrs.get("bound", "unknown")))
        + (f", data {str(attrs.get('data', 'unknown'))[:6]}" if several else "")
        for name, attrs in found.items()
    }


def _loaded(name: str, run: Run | xr.DataTree | str | Path) -> Run:
    if isinstance(run, xr.DataTree):
        raise UserError(f"run {name!r} is a trace alone: give the run, whose programs are needed")
    return run if isinstance(run, Run) else Run.load(run)


def _estimated(name: str, run: Any, under: str) -> Final:
    """Each seed's bound of the held-out data, nats per datum, and its standard error."""
    letter, _, count = under.partition("_")
    if under != "ELBO" and not (letter == "L" and count.isdecimal() and int(count) > 0):
        raise UserError(f"no bound {under!r}: give ELBO, or L_K such as L_100")
    if run.valid is None:
        raise UserError(
            f"run {name!r} has no held-out data to compare on: fit it with some (valid=), or load "
            "it with them, Run.load(..., valid=...)"
        )
    particles = int(count) if count else 1
    bounds = [
        importance_weighted_bound(program, run.valid, particles).double().cpu().numpy()
        for program in run.programs
    ]
    means = np.array([b.sum() / len(run.valid) for b in bounds])
    errors = [b.std(ddof=1) / len(b) ** 0.5 if len(b) > 1 else math.nan for b in bounds]
    return means, np.array(errors)


def _errors(final: Final) -> tuple[float, float]:
    """(Monte Carlo, between seeds) standard errors of the mean over seeds."""
    bounds, errors = final
    seeds = len(bounds)
    monte_carlo = float(np.sqrt((errors**2).sum()) / seeds)
    return monte_carlo, float(bounds.std(ddof=1) / seeds**0.5) if seeds > 1 else math.nan


def _error(final: Final) -> float:
    monte_carlo, between = _errors(final)
    return monte_carlo if math.isnan(between) else between


def _training(svi: xr.Dataset) -> Final:
    """Each seed's mean over its last steps, and that mean's standard error: (seeds,) each."""
    bounds, errors = [], []
    for values in svi["elbo"].to_numpy():
        values = values[np.isfinite(values)]
        window = values[-max(2, int(FINAL_SHARE * len(values))) :]
        bounds.append(window.mean())
        errors.append(window.std(ddof=1) / len(window) ** 0.5 if len(window) > 1 else math.nan)
    return np.array(bounds), np.array(errors)


def _held_out(tree: xr.DataTree) -> Final:
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
