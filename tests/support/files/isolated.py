"""The command in a process of its own, whose end, time and memory are looked at."""

import importlib
import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from typing import NamedTuple

from inference.cli import audit, fit, registry  # noqa: F401  (here, not in every child)
from inference.cli.main import main

for module in (
    *(source.module for source in registry.recipes().values()),
    *(command.module.partition(":")[0] for command in registry.commands().values()),
    *("datasets", "gensim.models", "gensim.corpora.wikicorpus", "pyarrow.parquet"),
):
    importlib.import_module(module)

MOST_SECONDS = 20  # of the processor
PATIENCE = 10  # times as much on the clock, as others may use the processor, too
MOST_MEGABYTES = 1000
LIMIT = 12 << 30  # bytes of address space, so that the machine survives a failure


class Ended(NamedTuple):
    """How a command ended: exit code (or −signal), what it printed, seconds, megabytes it took."""

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float

    def faults(self, *codes):
        """What is wrong with this end, if anything: it is to be quick, small and in words."""
        said = self.out + self.err
        found = []
        if "Traceback (most recent call last)" in said:
            found.append("traceback")
        if self.code not in (codes or (0, 2)):
            found.append(f"exit code {self.code}")
        if self.code == 2 and len([r for r in self.err.split("\n") if "lowerbound: " in r]) != 1:
            found.append("not one sentence")
        if self.seconds > MOST_SECONDS:
            found.append(f"{self.seconds:.0f} s")
        if self.megabytes > MOST_MEGABYTES:
            found.append(f"{self.megabytes:.0f} MB")
        if "\x1b" in said:
            found.append("escape code")
        return found


def isolated(arguments, before=None):
    """Run ``lowerbound ARGUMENTS`` in a forked process, after ``before()``."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        process = os.fork()
        if process == 0:
            _child([str(a) for a in arguments], before, out.fileno(), err.fileno())
        code, usage = _waited(process, start)
        seconds = usage.ru_utime + usage.ru_stime
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # what a child begins with
        texts = [_text(file) for file in (out, err)]
    return Ended(code, *texts, seconds, (usage.ru_maxrss - min(own, usage.ru_maxrss)) / 1024)


def _waited(process, start):
    while True:
        ended, status, usage = os.wait4(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() - start > PATIENCE * MOST_SECONDS:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)


def _text(file):
    file.seek(0)
    return file.read().decode(errors="replace")


def _child(arguments, before, out, err):
    code = 70
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(n, "w", closefd=False), write_through=True) for n in (1, 2)
        )
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
        if before is not None:
            before()
        main(arguments)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
