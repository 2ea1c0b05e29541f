"""When a training is saved: every so many seconds, and when it is interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from inference.engine.processes import DistributedProcesses, Processes


class Checkpointing:
    """``with Checkpointing(save, 30.0) as save_if_due: save_if_due()`` after each step.

    Ctrl-C waits for the step's end: half a step, whose noise is drawn or whose parameters are moved
    in part, could not be taken up again.  Asked once more, the training stops at once, unsaved.
    """

    def __init__(self, save: Callable[[], None], every: float) -> None:
        self.save, self.every = save, every
        self.saved = time.monotonic()
        self.asked = False
        self.before: Any = None

    def __enter__(self) -> Checkpointing:
        """From now on an interrupt asks for the end, unless it is ignored, as in the background."""
        main = threading.current_thread() is threading.main_thread()
        if main and callable(signal.getsignal(signal.SIGINT)):
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __call__(self) -> None:
        """Save if it is time to, and stop if that was asked for."""
        if self.due or self.asked:
            self._save()
        if self.asked:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, self.before)

    @property
    def due(self) -> bool:
        """Whether it is time to."""
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
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
        if kind is KeyboardInterrupt and not self.asked:
            self.save()
        if kind is None and self.asked:  # too late for a step
            self.save()
            raise KeyboardInterrupt


class DistributedCheckpointing(Checkpointing):
    """The same of several processes: all save, and stop, after the same step."""

    def __init__(
        self, save: Callable[[], None], every: float, processes: DistributedProcesses
    ) -> None:
        super().__init__(save, every)
        self.processes = processes

    def __enter__(self) -> Checkpointing:
        """Signals are the processes' affair."""
        return self

    def __call__(self) -> None:
        """Save or stop if a process asked for it with this step's gradient."""
        save, stop = self.processes.agreed()
        if stop:
            self._save()
            raise KeyboardInterrupt
        if save:
            self._save()
        self.processes.due = self.processes.rank == 0 and self.due

    def __exit__(self, *error: object) -> None:
        """Nothing: what interrupts one process alone cannot be saved by all."""


def checkpointing(save: Callable[[], None], every: float, processes: Processes) -> Checkpointing:
    """The one for these processes."""
    if isinstance(processes, DistributedProcesses):
        return DistributedCheckpointing(save, every, processes)
    return Checkpointing(save, every)
