"""This process's rank among those that torchrun started; rank 0 of 1 without torchrun."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from inference.util.errors import UserError


def signals() -> list[signal.Signals]:
    """The signals that ask a training to save and end; not those that are ignored (``nohup``)."""
    numbers = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    return [n for n in dict.fromkeys(numbers) if signal.getsignal(n) is not signal.SIG_IGN]


def size() -> int:
    """The number of processes."""
    return number("WORLD_SIZE", 1) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """This process's rank."""
    return number("RANK", 0) if size() > 1 else 0


def number(name: str, least: int) -> int:
    """The whole number in a variable that torchrun sets.

    Raises:
        UserError: it holds no such number.
    """
    if not (given := os.environ.get(name, "")).isdecimal() or int(given) < least:
        raise UserError(f"the variable {name} is {given!r}: torchrun sets it, or unset it")
    return int(given)


@contextmanager
def only_rank_zero_prints() -> Iterator[None]:
    """Silences stdout and stderr in all processes but the first."""
    if rank() == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def exit_together() -> Iterator[None]:
    """On a ``UserError``, one of several processes prints its sentence and all exit with 2."""
    try:
        yield
    except UserError as error:
        if size() == 1:
            raise
        if is_first_to_report():
            print(f"lowerbound: {error}", file=sys.__stderr__, flush=True)
        sys.exit(2)


def is_first_to_report() -> bool:
    """Whether this process is the first to ask, by torchrun's key-value store."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return rank() == 0
    from torch.distributed import TCPStore

    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(*address, is_master=False, wait_for_workers=False)
    key = f"lowerbound/teller/{os.environ.get('TORCHELASTIC_RESTART_COUNT')}"
    return store.compare_set(key, "", str(rank())) == str(rank()).encode()
