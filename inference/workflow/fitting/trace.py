"""The trace of a fit's seeds, as far as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import xarray as xr

from inference.engine.training.records.recorder import regrouped
from inference.engine.training.seed_training import SeedTraining
from inference.results import traces


def trace_of(trained: Sequence[SeedTraining], about: Mapping[str, Any]) -> xr.DataTree:
    """Group ``svi`` with dims (seed, step), and ``held_out`` where there were held-out data.

    Args:
        trained: the seeds.
        about: group → attributes: which bound of which data it holds.
    """
    groups = {"svi": _svi(trained)}
    if trained[0].valid is not None:
        groups["held_out"] = _held_out(trained)
    for name, group in groups.items():
        group.attrs |= about[name]
    if stopped := [f"seed {t.seed}: {t.iterates.verdict}" for t in trained if t.iterates]:
        groups["svi"].attrs["stopped"] = "; ".join(stopped)
    return xr.DataTree.from_dict(groups)


def _svi(trained: Sequence[SeedTraining]) -> xr.Dataset:
    """What every step recorded, and how many data it had seen."""
    names = (*trained[0].recorder.names, "seconds")
    records = [(t.recorder.fetch(), t.recorder.steps(t.step)) for t in trained]
    if len(windows := {t.recorder.window for t in trained}) > 1:  # some seeds stopped early
        records = [regrouped(*record, max(windows)) for record in records]
    svi = traces.svi_group(names, _seeds(trained), [s for _, s in records], [r for r, _ in records])
    examples = _examples(svi["step"], trained[0]).where(svi["elbo"].notnull())
    svi["examples"] = examples.transpose("seed", "step")
    svi["examples"].attrs["units"] = traces.UNITS["examples"]
    return svi


def _held_out(trained: Sequence[SeedTraining]) -> xr.Dataset:
    """The bound of the held-out data after each epoch, and its standard error."""
    histories = [torch.tensor(t.held_out.history, dtype=torch.float64) for t in trained]
    steps, values = [h[:, 0].long() for h in histories], [h[:, 1:] for h in histories]
    return traces.svi_group(("elbo", "elbo_error"), _seeds(trained), steps, values)


def _seeds(trained: Sequence[SeedTraining]) -> list[int]:
    return [t.seed for t in trained]


def _examples(step: xr.DataArray, training: SeedTraining) -> xr.DataArray:
    """Number of data seen after ``step`` steps; an epoch's last batch may be short."""
    plan = training.plan
    within = step % plan.steps_per_epoch * (plan.batch_size or plan.rows)
    return step // plan.steps_per_epoch * plan.rows + within
