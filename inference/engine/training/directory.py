"""The directory of a run: checks that it belongs to this fit, resumes, and writes checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.engine.processes import Processes
from inference.engine.training.identity import refuse_other
from inference.engine.training.loop import TrainingRun, train
from inference.util.errors import UserError
from inference.util.files import load_checkpoint, save_checkpoint, write_json
from inference.util.progress import Bar


class RunDirectory:
    """Where a fit's ``config.json`` and ``checkpoint.pt`` are kept.

    Args:
        path: None keeps everything in memory.
        identity: of the fit; see ``identity.identity``.
        every: seconds between checkpoints.
        processes: that train; rank 0 alone reads and writes.
    """

    def __init__(
        self, path: Path | None, identity: Mapping[str, Any], every: float, processes: Processes
    ) -> None:
        self.path, self.identity, self.every = path, identity, every
        self.processes = processes
        self.states: dict[Any, Any] = {}
        self._claimed = path is None

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Read the directory's checkpoint; nothing is written before the first seed is ready.

        Raises:
            UserError: it holds another fit, or this one without ``resume``.
        """
        self.states = self.processes.on_rank_zero(lambda: self._read(resume, overwrite))

    def train(self, training: TrainingRun, bar: Bar) -> None:
        """Resume the training from its checkpoint, if any, and run it to its end."""
        self.processes.on_rank_zero(self._claim)
        if state := self.states.get(training.seeds[0].seed):
            self._resume(training, state)
        if training.finished:
            return
        with bar:
            train(training, bar, lambda: self.save(training), self.every)
        self.save(training)

    def _resume(self, training: TrainingRun, state: Any) -> None:
        try:
            training.load_state_dict(state)
        except UserError:
            raise
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"the checkpoint of {self.path} does not fit this training ({error!r}): it was "
                "written by another version, or for another optimizer; finish it as it was begun, "
                "or --overwrite starts anew"
            ) from error

    def save(self, training: TrainingRun) -> None:
        """Checkpoint the states of all trainings so far; a collective call."""
        if self.path is not None:
            self.states[training.seeds[0].seed] = training.state_dict()
            if self.processes.rank == 0:
                save_checkpoint(self.path / "checkpoint.pt", self.states)

    def _read(self, resume: bool, overwrite: bool) -> dict[Any, Any]:
        for place in () if self.path is None else (self.path, *self.path.parents):
            if place.exists() and not place.is_dir():
                raise UserError(f"{place} is a file: choose another directory")
        if self.path is None or not (self.path / "config.json").exists() or overwrite:
            return {}
        if not resume:
            raise UserError(
                f"{self.path} holds a fit: --resume goes on with it, --overwrite replaces it, "
                "or choose another directory (in Python, resume=True and overwrite=True)"
            )
        refuse_other(self.path, self.identity)
        self._claimed = True
        checkpoint = self.path / "checkpoint.pt"
        return load_checkpoint(checkpoint) if checkpoint.exists() else {}

    def _claim(self) -> None:
        if self.path is not None and not self._claimed:
            for old in (
                "checkpoint.pt",
                "trace.nc",
            ):  # before config.json is replaced
                (self.path / old).unlink(missing_ok=True)
            write_json(self.path / "config.json", dict(self.identity))
        self._claimed = True
