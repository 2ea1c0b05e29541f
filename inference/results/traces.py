"""ELBO traces as an ``xarray.DataTree`` that ArviZ opens: building, writing, reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from torch import Tensor

from inference.results.draws.names import unlike
from inference.util.errors import UserError
from inference.util.files import replacing

UNITS = {
    "elbo": "nats per datum",
    "grad_norm": "nats per datum per unit of parameter",
    "seconds": "s",
    "examples": "data seen",
    "beta": "weight of the KL in the objective",
}

OF_THE_SAME_DRAWS = ("posterior", "posterior_predictive", "log_likelihood", "observed_data")


def svi_group(
    names: Sequence[str], seeds: Sequence[int], steps: Sequence[Tensor], rows: Sequence[Tensor]
) -> xr.Dataset:
    """Recorded rows of each seed as one data set with dims (seed, step), NaN where a seed ended.

    Args:
        names: variable of each column of ``rows``.
        seeds: one for each entry of ``steps`` and ``rows``.
        steps: (rows,) the last step of each row's window.
        rows: (rows, len(names)).
    """
    longest = max(steps, key=len).numpy()
    if any(len(row) != len(step) for row, step in zip(rows, steps, strict=True)):
        raise ValueError("rows and steps differ in length")
    values = np.full((len(seeds), len(longest), len(names)), np.nan)
    for i, row in enumerate(rows):
        values[i, : len(row)] = row.numpy()
    written = [unlike(names, ("seed", "step"))[name] for name in names]
    variables = {name: (("seed", "step"), values[..., j]) for j, name in enumerate(written)}
    group = xr.Dataset(variables, coords={"seed": list(seeds), "step": longest})
    for name in written:
        group[name].attrs["units"] = UNITS.get(name, "nats per datum")
    return group


def write_trace(tree: xr.DataTree, path: Path) -> None:
    """Write netCDF-4, atomically."""
    with replacing(path) as beside:
        tree.to_netcdf(beside, engine="h5netcdf")


def read_trace(path: str | Path) -> xr.DataTree:
    """The tree of a run directory (or of a ``trace.nc``), loaded into memory.

    Raises:
        UserError: there is no trace, or it cannot be read.
    """
    path = Path(path)
    file = path / "trace.nc" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file} does not exist: fit first, or name a run's directory")
    try:
        with xr.open_datatree(file, engine="h5netcdf") as tree:
            return tree.load()
    except Exception as error:  # h5netcdf, h5py and xarray raise of every kind for a damaged file
        raise UserError(f"{file} is not a readable netCDF file") from error


def with_groups(tree: xr.DataTree, groups: Mapping[str, xr.Dataset]) -> xr.DataTree:
    """The tree with these groups added or replaced.

    Groups of one set of draws belong together: with a new posterior, the old one's are removed.
    """
    gone = OF_THE_SAME_DRAWS if "posterior" in groups else ()
    kept = {name: node.to_dataset() for name, node in tree.children.items() if name not in gone}
    return xr.DataTree.from_dict({**kept, **groups})
