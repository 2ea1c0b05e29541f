"""Side by side in worker processes: seeds of a fit, runs of a sweep.

The engine is joblib: its own processes (loky) on one machine, and what
``joblib.parallel_config(backend="dask")`` or ``"ray"`` names on many, which share the files.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pickle import PicklingError
from typing import Any

import torch
from joblib import Parallel, delayed

from inference.engine import launch
from inference.util.errors import UserError
from inference.util.progress import Bar

INTERRUPTED = "interrupted"
WATCH = "ends this worker if its parent is gone"


def side_by_side(
    function: Callable[[Any], Any], items: Sequence[Any], jobs: int, label: str, shown: bool
) -> list[Any]:
    """``function(item)`` of each item, in ``jobs`` processes.

    A signal to end is passed on to the workers, whose trainings save and end.

    Args:
        function: and its results, can be pickled.
        items: its arguments.
        jobs: how many at a time; one runs here.
        label: of the bar.
        shown: show a bar.

    Raises:
        UserError: of the function; a worker was killed, or something cannot be sent to it.
        KeyboardInterrupt: after a signal.
    """
    if min(jobs, len(items)) < 2:
        return [function(item) for item in items]
    how = {"prefer": "processes", "batch_size": 1, "return_as": "generator_unordered"}
    workers = Parallel(n_jobs=min(jobs, len(items)), **how)
    calls = (delayed(_in_worker)(function, *p, torch.get_default_dtype()) for p in enumerate(items))
    found: dict[int, Any] = {}
    with _passing_on() as asked, Bar(label, len(items), shown) as bar:
        try:
            for i, result in workers(calls):
                found[i] = result
                bar.update(len(found))
        except (BrokenProcessPool, PicklingError) as error:
            if not asked:
                raise UserError(_sentence(error)) from error
    if asked or INTERRUPTED in found.values():
        raise KeyboardInterrupt
    return [found[i] for i in range(len(items))]


def _sentence(error: Exception) -> str:
    *_, reason = str(error.__cause__ or error).strip('\n" ').splitlines()
    if isinstance(error, PicklingError):
        return f"something cannot be sent to worker processes ({reason}): leave out jobs"
    return (
        "a worker process was killed, perhaps for want of memory: the same call with resume=True "
        f"(--resume) goes on, with fewer jobs ({reason})"
    )


def _in_worker(
    function: Callable[[Any], Any], i: int, item: Any, dtype: torch.dtype
) -> tuple[int, Any]:
    """(i, the result), or that it was interrupted."""
    if not any(thread.name == WATCH for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=[os.getppid()], name=WATCH, daemon=True).start()
    if threading.current_thread() is threading.main_thread():
        for number in launch.signals():  # a training sets its own; without one there is no haste
            signal.signal(number, lambda number, frame: None)
    torch.set_default_dtype(dtype)
    try:
        return i, function(item)
    except KeyboardInterrupt:
        return i, INTERRUPTED


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def _passing_on() -> Iterator[list[int]]:
    """Passes signals on to the workers, and lists them; the same signal again acts as before."""
    asked: list[int] = []
    before: dict[int, Any] = {}

    def pass_on(number: int, frame: Any) -> None:
        asked.append(number)
        signal.signal(number, before[number])
        for worker in multiprocessing.active_children():
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGTERM)

    if threading.current_thread() is threading.main_thread():
        before = {n: signal.getsignal(n) for n in launch.signals()}
        for number in before:
            signal.signal(number, pass_on)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
