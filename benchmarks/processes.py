"""Two processes against one, a thread each, at the same batches of a VAE."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import torch

from benchmarks.timing import Row, Step, in_turn, rows
from benchmarks.vae import SHAPE, SIZE, fitted
from inference.data.columns import Columns
from inference.engine.processes import Processes, launched

BATCHES, BLOCKS, GOAL = (512, 2048), 30, 1 / 1.8
SHARED, ALONE = "two processes", "one process"


def measure(blocks: int = BLOCKS) -> Iterator[Row]:
    """Rows of fit's step, uncompiled and compiled."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, "-m", "benchmarks.processes", str(blocks)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    for work, times in json.loads(done.stdout).items():
        yield from rows(work, SHARED, {ALONE: GOAL}, times)


def contenders(processes: Processes, batch_size: int, compiled: bool) -> dict[str, Step]:
    """One and two processes; while the first runs alone, the second waits."""
    torch.manual_seed(0)
    columns = Columns({"x": torch.rand(SIZE, *SHAPE).round()})
    waits = processes.rank > 0
    alone = (lambda: None) if waits else fitted(columns, batch_size, compiled)
    return {SHARED: fitted(columns, batch_size, compiled, processes), ALONE: alone}


def main(blocks: int) -> None:
    """One of the processes; the first prints seconds a step."""
    torch.set_num_threads(1)
    with launched("cpu") as processes:
        times = {
            f"VAE, batch {batch_size}, {kind}": in_turn(
                contenders(processes, batch_size, kind != "fit"), blocks, 2048 // batch_size
            )
            for batch_size in BATCHES
            for kind in ("fit", "fit, compiled")
        }
        if processes.rank == 0:
            print(json.dumps(times))


if __name__ == "__main__":
    main(int(sys.argv[1]))
