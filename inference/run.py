"""A finished fit: its trace, its trained programs, and what can be drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import xarray as xr

from inference import traces
from inference.data.columns import Columns, Streamed
from inference.program import Program


@dataclass
class Run:
    """What ``fit`` returns.

    Attributes:
        trace: ``xarray.DataTree``; group ``svi`` has dims (seed, step), see ``inference.traces``.
        programs: the trained model and guide of each seed.
        data: the columns they were trained on, on the device.
        directory: where the run is kept, or None.
        dtype: floating type of parameters and data.
    """

    trace: xr.DataTree
    programs: Sequence[Program]
    data: Columns | Streamed
    directory: Path | None
    dtype: torch.dtype

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The first seed's parameters by name, constrained."""
        return self.programs[0].values()

    def save(self) -> None:
        """Write ``trace.nc`` into the run's directory, if it has one."""
        if self.directory is not None:
            traces.write(self.trace, self.directory / "trace.nc")
