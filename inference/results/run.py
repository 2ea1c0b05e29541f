"""A finished fit: its trace, its trained programs, and what can be drawn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import xarray as xr

from inference.data.columns import Columns, Streamed, as_columns
from inference.engine.program.checks.arguments import is_count
from inference.engine.program.program import Program, accepted_columns
from inference.engine.training.validation import naming_other_columns, refuse_other_columns
from inference.results import traces
from inference.util.errors import UserError
from inference.util.files import write_json

DataT = TypeVar("DataT", Columns, Streamed, Columns | Streamed)


@dataclass
class Run:
    """What ``fit`` returns.

    Attributes:
        trace: ``xarray.DataTree``; group ``svi`` has dims (seed, step), see
            ``inference.results.traces``.
        programs: the trained model and guide of each seed.
        data: the columns they were trained on, on the device.
        directory: of the run's files, or None; with several processes, rank 0 writes it.
    """

    trace: xr.DataTree
    programs: Sequence[Program]
    data: Columns | Streamed
    directory: Path | None
    dtype: torch.dtype
    device: torch.device

    def place(self, columns: DataT) -> DataT:
        """Other data of the same kind, moved to the programs' device and dtype."""
        return columns.to(self.device, self.dtype)

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The first seed's parameters by name, constrained."""
        return self.programs[0].values()

    def save(self) -> None:
        """Write ``trace.nc`` into the run's directory, if it has one."""
        if self.directory is not None:
            traces.write_trace(self.trace, self.directory / "trace.nc")

    def posterior(
        self,
        num_samples: int = 1000,
        data: Columns | Streamed | Mapping[str, torch.Tensor] | None = None,
        seed: int = 0,
        *,
        assign: bool = False,
        progress: bool = True,
    ) -> xr.DataTree:
        """Add draws from a seed's guide to the trace, as ArviZ's groups; return the trace.

        See ``inference.results.posterior.posterior_groups``.

        Args:
            num_samples: draws.
            data: columns to draw for; the training data unless given.  A column with a default in
                the model (``y=None``) may be missing: its site is then predicted.
            seed: which of the trained programs.
            assign: also draw the enumerated latents.
            progress: show a bar where draws are made one by one.

        Raises:
            UserError: the data are not columns, or not those that the model takes.
        """
        from inference.results.posterior import posterior_groups

        if not is_count(num_samples, 1):
            asked = num_samples if isinstance(num_samples, int | float) else type(num_samples)
            raise UserError(
                f"num_samples is {asked}: give a whole number, at least 1 (data go by "
                "name, posterior(data=...))"
            )
        program = self.programs[seed]
        columns = self.data
        if data is not None:
            given = as_columns(data)
            columns = self.place(given.select(accepted_columns(program.model, given.names)))
            refuse_other_columns("the data", columns, self.data)
        with naming_other_columns("the data", columns, self.data):
            groups = posterior_groups(program, columns, num_samples, assign, progress)
        self.trace = traces.with_groups(self.trace, groups)
        self.save()
        return self.trace

    def finish(self, figures: Mapping[str, Any]) -> None:
        """Write the trace, its plot and these figures; print the figures as a table."""
        from inference.results import plots
        from inference.results.report import figure_table, plain

        self.save()
        if self.directory is not None:
            plots.elbo(self.trace, self.directory / "elbo.png")
            write_json(self.directory / "figures.json", plain(figures))
        figure_table(self.trace, figures, self.directory)
