"""Checkpoints at intervals and when the training is interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from inference.engine import launch
from inference.engine.processes import DistributedProcesses, Processes


class Checkpointing:
    """``with Checkpointing(save, 30.0) as save_if_due: save_if_due()`` after each step.

    Ctrl-C, SIGTERM and SIGHUP wait for the end of the step, because a step that is half done could
    not be resumed.  The same signal again stops at once, without saving.
    """

    def __init__(self, save: Callable[[], None], every: float) -> None:
        self.save, self.every = save, every
        self.saved = time.monotonic()
        self.asked = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Checkpointing:
        """Install the handler of the signals that are not ignored (as in a background process)."""
        if threading.current_thread() is threading.main_thread():
            self.before = {n: signal.signal(n, self._ask) for n in launch.signals()}
        return self

    def __call__(self) -> None:
        """Save if a save is due; save and stop after an interrupt."""
        if self.due or self.asked:
            self._save()
        if self.asked:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, self.before[number])

    @property
    def due(self) -> bool:
        """Whether a save is due."""
        return time.monotonic() - self.saved >= self.every

    def _save(self) -> None:
        self.save()
        self.saved = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if kind is KeyboardInterrupt and not self.asked:
            self.save()
        if kind is None and self.asked:  # after the last step
            self.save()
            raise KeyboardInterrupt


class DistributedCheckpointing(Checkpointing):
    """``Checkpointing`` of several processes: all save, and stop, after the same step."""

    def __init__(
        self, save: Callable[[], None], every: float, processes: DistributedProcesses
    ) -> None:
        super().__init__(save, every)
        self.processes = processes

    def __enter__(self) -> Checkpointing:
        """Installs nothing: ``DistributedProcesses`` handles signals."""
        return self

    def __call__(self) -> None:
        """Save or stop if any process asked for it in this step's all-reduce."""
        save, stop = self.processes.agreed()
        if stop:
            self._save()
            raise KeyboardInterrupt
        if save:
            self._save()
        self.processes.due = self.processes.rank == 0 and self.due

    def __exit__(self, *error: object) -> None:
        """Saves nothing: an error in one process cannot be saved by all."""


def checkpointing(save: Callable[[], None], every: float, processes: Processes) -> Checkpointing:
    """The kind of checkpointing for these processes."""
    if isinstance(processes, DistributedProcesses):
        return DistributedCheckpointing(save, every, processes)
    return Checkpointing(save, every)
