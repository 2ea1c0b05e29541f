"""``lowerbound sweep``: a recipe's runs over a grid of options, side by side, compared."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from inference.cli import registry
from inference.cli.fit import fit_recipe
from inference.cli.options import SweepOptions, swept
from inference.cli.registry import Source
from inference.recipes.options import Training
from inference.results.report import Estimate, estimated
from inference.util.errors import UserError
from inference.util.files import write_json
from inference.workflow.compare import compare_directories
from inference.workflow.workers import side_by_side

Named = tuple[str, Training]  # "learning-rate=0.001,latent-dim=10", and the options


def run(source: Source, options: SweepOptions) -> None:
    """Fit every combination, or go on with it; figures, and a comparison of those that ended.

    Raises:
        UserError: no run has ended.
    """
    out = options.out or Path("runs") / f"{Path(source.name).stem}-sweep"
    runs = combinations(source, options, out)
    worker = functools.partial(_one, source.name)
    found = side_by_side(worker, runs, options.jobs, f"{len(runs)} runs", shown=True)
    results = {name: result for (name, _), result in zip(runs, found, strict=True)}
    ended = {name: figures for name, figures in results.items() if isinstance(figures, Mapping)}
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for name, result in results.items():
        console.print(f"{name}: {_line(result)}")
    if not ended:
        raise UserError(f"no run of the sweep in {out} has ended")
    write_json(out / "sweep.json", {name: dict(figures) for name, figures in ended.items()})
    if len(ended) > 1:
        compare_directories([out / name for name in ended], out)


def combinations(source: Source, options: SweepOptions, out: Path) -> list[Named]:
    """Each combination of the values given, by name, with a directory of that name.

    Raises:
        UserError: an option has no value, or one twice.
    """
    chosen = {name: getattr(options, name) for name in swept(source.options)}
    for name, values in chosen.items():
        if len(set(values)) < max(1, len(values)):
            raise UserError(f"--{_dashed(name)}: give one or more values, each once")
    several = {name: values for name, values in chosen.items() if len(values) > 1}
    fixed = {
        f.name: chosen[f.name][0] if f.name in chosen else getattr(options, f.name)
        for f in dataclasses.fields(source.options)
    }
    found = []
    for values in itertools.product(*several.values()):
        own = dict(zip(several, values, strict=True))
        label = ",".join(f"{_dashed(n)}={v}".replace("/", "-") for n, v in own.items()) or "run"
        how = fixed | own | {"out": out / label, "resume": not options.overwrite}
        found.append((label, source.options(**how)))
    return found


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _one(recipe: str, task: Named) -> dict[str, Any] | str:
    """In a worker: one run's figures, or the sentence that it ended with."""
    _, options = task
    try:
        with _silence(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted, figures = fit_recipe(registry.find(recipe), options)
            fitted.finish(figures)
    except UserError as error:
        return str(error)
    shown = estimated(figures)
    return {n: v.value if isinstance(v, Estimate) else v for n, v in shown.items()}


@contextlib.contextmanager
def _silence() -> Any:
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _line(result: Mapping[str, Any] | str) -> str:
    """A run's figures, or the sentence that it ended with."""
    if isinstance(result, str):
        return result
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in result.items()
    )
