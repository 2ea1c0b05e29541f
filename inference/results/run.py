"""A finished fit: its trace, its trained programs, and what can be drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import xarray as xr
from rich.console import Console
from rich.table import Table

from inference.data.columns import Columns, Streamed, as_columns
from inference.engine.program.checks.arguments import is_count
from inference.engine.program.program import Program, accepted_columns
from inference.engine.training.validation import naming_other_columns, refuse_other_columns
from inference.results import restored, traces
from inference.results.arviz_versions import inference_data
from inference.util import tables
from inference.util.errors import UserError
from inference.util.files import write_json

DataT = TypeVar("DataT", Columns, Streamed, Columns | Streamed)


@dataclass(repr=False)
class Run(tables.ShownAsTables):
    """What ``fit`` returns, and ``Run.load`` reads back on another day; printed, its final bounds.

    Attributes:
        trace: ``xarray.DataTree``; group ``svi`` has dims (seed, step), see
            ``inference.results.traces``.
        programs: the trained model and guide of each seed.
        data: the columns they were trained on, on the device; None if loaded without.
        directory: of the run's files, or None; with several processes, rank 0 writes it.
    """

    trace: xr.DataTree
    programs: Sequence[Program]
    data: Columns | Streamed | None
    directory: Path | None
    dtype: torch.dtype
    device: torch.device
    valid: Columns | Streamed | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    example: Columns | None = None

    @classmethod
    def load(
        cls,
        directory: str | Path,
        model: Callable[..., Any] | None = None,
        guide: Callable[..., Any] | None = None,
        data: Any = None,
        valid: Any = None,
        *,
        recipe: str | None = None,
        device: str = "cpu",
    ) -> Run:
        """The run in a directory: its programs with trained parameters, and its trace.

        Args:
            directory: of a fit that has ended.
            model, guide: the program that was fitted; of a recipe's run they and the data are
                built anew.
            data: the training data, for ``posterior()`` of them.
            valid: held-out data, for ``compare(..., under=...)``.
            recipe: the file of a recipe of yours: what a directory names is not executed.
            device: where to put the programs.

        Raises:
            UserError: the directory holds no finished fit, or one of another program or data.
        """
        program = None if model is None or guide is None else (model, guide)
        return cls(**restored.parts_of(Path(directory), program, data, valid, recipe, device))

    def place(self, columns: DataT) -> DataT:
        """Other data of the same kind, moved to the programs' device and dtype."""
        return columns.to(self.device, self.dtype)

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The first seed's parameters by name, constrained."""
        return self.programs[0].values()

    @property
    def seeds(self) -> list[int]:
        """The seeds, in the order of ``programs``."""
        return [int(seed) for seed in self.trace["svi"]["seed"].to_numpy()]

    def program(self, seed: int | None = None) -> Program:
        """The trained program of a seed; the first one's unless given.

        Raises:
            UserError: there is no such seed.
        """
        seeds = self.seeds
        if seed is not None and seed not in seeds:
            raise UserError(f"the run has no seed {seed}: give one of {seeds}")
        return self.programs[0 if seed is None else seeds.index(seed)]

    def keep_groups(self) -> None:
        """Take over what was drawn before, the posterior, from the directory's trace."""
        if self.directory is not None and (self.directory / "trace.nc").exists():
            before = traces.read_trace(self.directory)
            fresh = {name: node.to_dataset() for name, node in self.trace.children.items()}
            self.trace = traces.with_groups(before, fresh)

    def save(self) -> None:
        """Write ``trace.nc`` into the run's directory, if it has one."""
        if self.directory is not None:
            traces.write_trace(self.trace, self.directory / "trace.nc")

    def posterior(
        self,
        num_samples: int = 1000,
        data: Columns | Streamed | Mapping[str, torch.Tensor] | None = None,
        seed: int | None = None,
        *,
        assign: bool = False,
        progress: bool = True,
    ) -> xr.DataTree:
        """Add draws from a seed's guide to the trace, as ArviZ's groups; return the trace.

        See ``inference.results.posterior.posterior_groups``.

        Args:
            num_samples: draws.
            data: columns to draw for, any rows; the training data unless given.  A column with a
                default in the model (``y=None``) may be missing: its site is then predicted.
            seed: whose program; the first unless given.
            assign: also draw the enumerated latents.
            progress: show a bar where draws are made one by one.

        Raises:
            UserError: the data are not columns, or not those that the model takes.
        """
        if not is_count(num_samples, 1):
            asked = num_samples if isinstance(num_samples, int | float) else type(num_samples)
            raise UserError(
                f"num_samples is {asked}: give a whole number, at least 1 (data go by "
                "name, posterior(data=...))"
            )
        groups = self._drawn(data, num_samples, seed, assign, progress)
        self.trace = traces.with_groups(self.trace, groups)
        self.save()
        return self.trace

    def predict(
        self,
        columns: Columns | Streamed | Mapping[str, torch.Tensor],
        num_samples: int = 1000,
        seed: int | None = None,
        *,
        progress: bool = True,
    ) -> xr.Dataset:
        """Draws of the observed sites for these rows, dims (chain, draw, plates …, event …).

        A site is drawn from the model given a draw of the guide; its column may be missing if it
        has a default in the model (``y=None``).  The trace stays as it is.

        Raises:
            UserError: as ``posterior``; or the model observes nothing.
        """
        groups = self._drawn(columns, num_samples, seed, False, progress)
        if "posterior_predictive" not in groups:
            raise UserError("the model observes nothing, so that there is nothing to predict")
        return groups["posterior_predictive"]

    def inference_data(self) -> Any:
        """The trace as ArviZ's own object (InferenceData of 0.23, DataTree of 1.x).

        Draws the posterior of the training data unless it has been drawn.
        """
        if "posterior" not in self.trace.children:
            self.posterior()
        return inference_data(self.trace)

    def _drawn(
        self, data: Any, num_samples: int, seed: int | None, assign: bool, progress: bool
    ) -> dict[str, xr.Dataset]:
        """See ``posterior_groups``."""
        from inference.results.posterior import posterior_groups

        program = self.program(seed)
        like = self.data or self.example
        assert like is not None
        columns = self.data
        if data is not None:
            given = as_columns(data)
            columns = self.place(given.select(accepted_columns(program.model, given.names)))
            refuse_other_columns("the data", columns, like)
        if columns is None:
            raise UserError("the run was loaded without its data: give data=, the rows to draw for")
        with naming_other_columns("the data", columns, like):
            return posterior_groups(program, columns, num_samples, assign, progress)

    def table(self, figures: Mapping[str, Any] | None = None) -> Table:
        """A rich table of the final bounds, and of further figures by name."""
        from inference.results.report import figure_table

        return figure_table(self.trace, figures or {}, self.directory)

    def tables(self) -> list[Table]:
        """The one that is shown."""
        return [self.table()]

    def plot(self, path: str | Path) -> None:
        """Plot the ELBO and its terms against the step; the band spans the seeds."""
        from inference.results import plots

        plots.elbo(self.trace, path)

    def finish(self, figures: Mapping[str, Any]) -> None:
        """Write the trace, its plot and these figures; print the figures as a table."""
        from inference.results.report import plain

        self.save()
        console = Console()
        console.print(self.table(figures))
        if self.directory is not None:
            self.plot(self.directory / "elbo.png")
            write_json(self.directory / "figures.json", plain(figures))
            console.print(tables.plain(f"trace, checkpoint and pictures: {self.directory}"))
