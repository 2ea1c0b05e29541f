"""Seconds to the first compiled step, imports included: with an empty cache, and once more."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from statistics import median

from benchmarks.timing import Row

PROGRAMS = {
    "VAE": "from benchmarks import vae; step = vae.fitted(vae.columns(), 128, compiled=True)",
    "attention, 40 looks": "from benchmarks import attention as a; step = a.compiled(a.drawn(40))",
}
END = "; step(); import os; os._exit(0)"  # exit at once, without cleaning up
REPEATS = 3


def seconds(script: str, cache: str) -> float:
    """Seconds from a process's start to the end of its first step."""
    began = time.perf_counter()
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
    subprocess.run([sys.executable, "-c", script + END], env=environment, check=True)
    return time.perf_counter() - began


def measure() -> Iterator[Row]:
    """The second start against the first."""
    for name, script in PROGRAMS.items():
        with tempfile.TemporaryDirectory() as cache:
            cold = seconds(script, cache)
            warm = median(seconds(script, cache) for _ in range(REPEATS))
        ratio = warm / cold
        yield Row(
            f"first step, {name}", "again", "new", 0.5, 1e3 * warm, 1e3 * cold, ratio, ratio, ratio
        )
