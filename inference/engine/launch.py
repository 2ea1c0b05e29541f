"""Which of the processes that torchrun started this one is; without torchrun, the only one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from inference.util.errors import UserError


def size() -> int:
    """How many there are."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """This one's number, from 0."""
    return int(os.environ["RANK"]) if size() > 1 else 0


@contextmanager
def only_rank_zero_prints() -> Iterator[None]:
    """Within it, the first of several processes prints, and the others are silent."""
    if rank() == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def exit_together() -> Iterator[None]:
    """A ``UserError`` within it ends several processes: one says the sentence, all exit with 2."""
    try:
        yield
    except UserError as error:
        if size() == 1:
            raise
        if is_first_to_report():
            print(f"lowerbound: {error}", file=sys.__stderr__, flush=True)
        sys.exit(2)


def is_first_to_report() -> bool:
    """Whether this process is the first that asks; torchrun's own store decides."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return rank() == 0
    from torch.distributed import TCPStore

    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(*address, is_master=False, wait_for_workers=False)
    key = f"lowerbound/teller/{os.environ.get('TORCHELASTIC_RESTART_COUNT')}"
    return store.compare_set(key, "", str(rank())) == str(rank()).encode()
