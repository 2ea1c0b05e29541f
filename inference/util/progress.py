"""A progress bar with the current ELBO, rate and time left; plain lines without a terminal."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from inference.util.terminal import printable

LINE_EVERY = 30.0  # seconds between lines in a log file
REFRESH = 0.25  # seconds between updates of the bar


class Bar:
    """``with Bar("seed 0", total) as bar: bar.update(step, "ELBO −101.2")``."""

    def __init__(self, label: str, total: int, shown: bool = True) -> None:
        self.label, self.total, self.shown = printable(label), total, shown
        self.start = 0  # done before, in a resumed run
        self.console = Console(stderr=True)
        self._next = 0.0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f}/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
        )

    def __enter__(self) -> Bar:
        self._progress.start()
        self._task = self._progress.add_task(self.label, total=self.total, rate=math.nan, note="")
        self._began = time.monotonic()
        self._next = self._began + (0 if self.console.is_terminal else LINE_EVERY)
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    @property
    def due(self) -> bool:
        """Whether an update is due (check before fetching numbers for it)."""
        return self.shown and time.monotonic() >= self._next

    def update(self, done: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` steps are done."""
        now = time.monotonic()
        rate = (done - self.start) / max(now - self._began, 1e-9)
        self._progress.update(self._task, completed=done, note=note, rate=rate)
        self._next = now + (REFRESH if self.console.is_terminal else LINE_EVERY)
        if self.shown and not self.console.is_terminal:
            left = (self.total - done) / rate if rate > 0 else math.nan
            self.console.print(
                f"{self.label}  {done}/{self.total}  {rate:.0f}/s  {left:.0f} s left  {note}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
