"""The directory of a run: claimed by one fit, checked to be of this fit, resumed, checkpointed."""

from __future__ import annotations

import copy
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from inference.engine.processes import Processes
from inference.engine.training.identity import FOREIGN, read_config, refuse_other
from inference.engine.training.loop import TrainingRun, train
from inference.util.errors import UserError
from inference.util.files import load_checkpoint, save_checkpoint, write_json
from inference.util.progress import Bar

CHECKPOINT = "checkpoint.pt"
PARTS = "checkpoint-*.pt"  # of seeds that are trained side by side
WAIT = 10.0  # seconds for the workers of a process that was killed to end
OURS = (CHECKPOINT, "trace.nc", "figures.json", "elbo.png")


class RunDirectory:
    """Where a fit's ``config.json`` and ``checkpoint.pt`` are kept; ``with`` frees it at the end.

    The fit that claims it holds a lock, which the system frees if the process is killed.

    Args:
        path: None keeps everything in memory.
        identity: of the fit; see ``identity.fit_identity``.
        every: seconds between checkpoints.
        processes: that train; rank 0 alone reads and writes.

    Attributes:
        states: the checkpoint of each seed.
        config: the identity with that of the program, and versions.
        trained: whether any step was taken.
    """

    def __init__(
        self, path: Path | None, identity: Mapping[str, Any], every: float, processes: Processes
    ) -> None:
        self.path, self.identity, self.every = path, dict(identity), every
        self.processes = processes
        self.states: dict[Any, Any] = {}
        self.config: dict[str, Any] = {}
        self.trained = False
        self.resume = self.overwrite = self.extend = False
        self._lock: FileLock | None = None
        self.checkpoint, self.keeps = CHECKPOINT, path is not None
        self._claimed = path is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, which is this process's."""
        return self.__dict__ | {"_lock": None}

    def open(self, *, resume: bool, overwrite: bool, extend: bool = False) -> None:
        """Read the directory's checkpoint; nothing is written before the first seed is ready.

        Raises:
            UserError: it holds another fit, or this one without ``resume``; another process trains
                there; or it holds files that are not of a fit.
        """
        self.resume, self.overwrite, self.extend = resume, overwrite, extend
        self.states = self.processes.on_rank_zero(self._read)

    def recorded(self, name: str) -> Any:
        """What ``config.json`` holds of the fit that goes on, or None; a collective call."""
        return self.processes.on_rank_zero(lambda: self._recorded(name))

    def claim(self, training: TrainingRun) -> None:
        """Write ``config.json`` at the first call; the directory is this fit's from then on."""
        program = training.identity()
        self.config |= self.identity | program | {"versions": versions()}
        self.processes.on_rank_zero(lambda: self._claim(program))

    def train(self, training: TrainingRun, bar: Bar) -> None:
        """Resume the training from its checkpoint, if any, and run it to its end."""
        self.claim(training)
        if state := self.states.get(training.seeds[0].seed):
            self._resume(training, state)
        if training.finished:
            return
        self.trained = True
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
        if self.keeps:
            self.states[training.seeds[0].seed] = training.state_dict()
            if self.path is not None and self.processes.rank == 0:
                save_checkpoint(self.path / self.checkpoint, self.states)

    def part(self, seed: int) -> RunDirectory:
        """For one seed's training in another process: the same, with a checkpoint of its own."""
        part = copy.copy(self)
        part.states = {s: state for s, state in self.states.items() if s == seed}
        part.checkpoint, part._lock = f"checkpoint-{seed}.pt", None
        part.keeps = part._claimed = True
        return part

    def hold(self) -> None:
        """Lock this part's checkpoint, at most for some seconds still another process's."""
        if self.path is not None:
            self._lock = locked(self.path, f".{self.checkpoint}.lock", WAIT)

    def join(self, parts: Iterable[Mapping[Any, Any]]) -> None:
        """Take over the states of parts, whose checkpoints become one."""
        for states in parts:
            self.states |= states
            self.trained = True
        if self.path is not None:
            save_checkpoint(self.path / self.checkpoint, self.states)
            for part in self.path.glob(PARTS):
                part.unlink()

    def _read(self) -> dict[Any, Any]:
        for place in () if self.path is None else (self.path, *self.path.parents):
            if place.exists() and not place.is_dir():
                raise UserError(f"{place} is a file: choose another directory")
        if self.path is None or not self.path.exists():
            return {}
        if not self.overwrite:
            refuse_foreign(self.path)
        self._lock = self._lock or locked(self.path)
        if self.overwrite or not (self.path / "config.json").exists():
            return {}
        before = read_config(self.path)
        if not self.resume:
            raise UserError(
                f"{self.path} holds a fit: --resume goes on with it, --overwrite replaces it, "
                "or choose another directory (in Python, resume=True and overwrite=True)"
            )
        refuse_other(self.path, before, self.identity, self.extend)
        checkpoint = self.path / CHECKPOINT
        states = load_checkpoint(checkpoint) if checkpoint.exists() else {}
        for part in self.path.glob(PARTS):
            for seed, state in load_checkpoint(part).items():
                if seed not in states or state["step"] > states[seed]["step"]:
                    states[seed] = state
        return states

    def _recorded(self, name: str) -> Any:
        if self.overwrite or self.path is None or not (self.path / "config.json").exists():
            return None
        return read_config(self.path).get(name)

    def _claim(self, program: Mapping[str, Any]) -> None:
        if self.path is None or self._claimed:
            return
        fresh = self._lock is None
        self._lock = self._lock or locked(self.path)
        if fresh and self._read():
            raise UserError(f"{self.path} has been trained in meanwhile: the same call goes on")
        for name in ("config.json", *OURS):  # left by a process that was killed
            for old in self.path.glob(f".{name}.*tmp*"):
                old.unlink(missing_ok=True)
        if self.states:
            refuse_other(self.path, read_config(self.path), program)
        else:
            parts = (path.name for path in self.path.glob(PARTS))
            for name in (CHECKPOINT, "trace.nc", *parts):  # before config.json is replaced
                (self.path / name).unlink(missing_ok=True)
        write_json(self.path / "config.json", self.config)
        self._claimed = True


def refuse_foreign(path: Path) -> None:
    """Raise a ``UserError`` if there is a file of ``fit``'s names, but no ``config.json`` of it."""
    if (path / "config.json").exists():
        read_config(path)
        return
    if found := [path / name for name in OURS if (path / name).exists()]:
        raise UserError(f"{found[0]}, without a config.json beside it, {FOREIGN}")


def locked(path: Path, name: str = ".lock", wait: float = 0.0) -> FileLock:
    """A lock on the directory, held until it is released or this process ends.

    Args:
        path: made if it does not exist.
        name: of the file that is locked.
        wait: seconds, for another process to end.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    lock = FileLock(path / name, timeout=wait)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another process trains in {path}: wait for its end, or choose another directory"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    return lock


def versions() -> dict[str, str]:
    """What trained: Python, and the libraries that numbers come from."""
    names = ("lowerbound", "torch", "pyro-ppl", "numpy")
    found = {n: importlib.metadata.version(n) for n in names if _installed(n)}
    return {"python": sys.version.split()[0], **found}


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
