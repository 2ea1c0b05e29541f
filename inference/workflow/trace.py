"""What trainings recorded, as the tree that a run keeps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr

from inference.engine.training.seed_training import SeedTraining
from inference.results import traces


def trace_of(trained: Sequence[SeedTraining]) -> xr.DataTree:
    """Group ``svi`` with dims (seed, step), and ``held_out`` where there were held-out data."""
    seeds = [t.seed for t in trained]
    names = (*trained[0].recorder.names, "seconds")
    rows = [t.recorder.rows() for t in trained]
    steps = [t.recorder.steps(t.step) for t in trained]
    svi = traces.svi_group(names, seeds, steps, rows)
    examples = _examples(svi["step"], trained[0]).where(svi["elbo"].notnull())
    svi["examples"] = examples.transpose("seed", "step")
    svi["examples"].attrs["units"] = traces.UNITS["examples"]
    groups = {"svi": svi}
    if trained[0].valid is not None:
        histories = [torch.tensor(t.held_out.history, dtype=torch.float64) for t in trained]
        groups["held_out"] = traces.svi_group(
            ("elbo", "elbo_error"),
            seeds,
            [h[:, 0].long() for h in histories],
            [h[:, 1:] for h in histories],
        )
    return xr.DataTree.from_dict(groups)


def _examples(step: xr.DataArray, training: SeedTraining) -> xr.DataArray:
    """Data seen after ``step`` steps; an epoch's last batch may be short."""
    plan = training.plan
    within = step % plan.steps_per_epoch * (plan.batch_size or plan.rows)
    return step // plan.steps_per_epoch * plan.rows + within
