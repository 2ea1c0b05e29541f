"""What ``fit`` costs over the bare loop on the same program: python -m benchmarks.loop.

The two loops train the same VAE (784-400-20) on the same batches, block by block in turn, so that
a machine that slows down slows both.  Printed: milliseconds a step and the ratio of the medians.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from pyro.infer import Trace_ELBO
from rich.console import Console
from rich.table import Table
from torch import nn

from guides.amortized import AmortizedGaussian
from inference.data.columns import Columns, epoch_order
from inference.program import Program
from inference.trainer import Plan, Trainer
from ppl_models.likelihoods import Bernoulli
from ppl_models.networks import image_decoder, image_encoder
from ppl_models.vae import VAE

SIZE, BLOCKS, STEPS = 20_000, 240, 4
SHAPE = (1, 28, 28)
Adam = partial(torch.optim.Adam, lr=1e-3, fused=True)


def program() -> Program:
    """The VAE of the benchmark."""
    torch.manual_seed(0)
    model = VAE(image_decoder(SHAPE, [400], 20, nn.ReLU), Bernoulli(), 20, SIZE)
    return Program(model, AmortizedGaussian(image_encoder(SHAPE, [400], 40, nn.ReLU), SIZE))


def batches(columns: Columns, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Epoch after epoch, as fit draws them."""
    epoch = 0
    while True:
        yield from columns.batches(epoch_order(len(columns), batch_size, 0, epoch))
        epoch += 1


def bare(columns: Columns, batch_size: int) -> Iterator[None]:
    """zero_grad, ELBO, backward, step: one step at each ``next``."""
    p, elbo = program(), Trace_ELBO()
    parameters = [*p.model.parameters(), *p.guide.parameters()]
    optimizer = Adam(parameters)
    for batch in batches(columns, batch_size):
        optimizer.zero_grad()
        (elbo.differentiable_loss(p.model, p.guide, **batch) / SIZE).backward()
        optimizer.step()
        yield


def fitted(columns: Columns, batch_size: int) -> Iterator[None]:
    """The step that fit takes, with its trace, norm, schedule and check for NaN."""
    p = program()
    plan = Plan(100_000, SIZE // batch_size, batch_size, torch.device("cpu"), torch.float32)
    with p.scope():
        trainer = Trainer(p, Trace_ELBO(), Adam, columns, None, plan, 0)
        for batch in batches(columns, batch_size):
            trainer._take_step(batch)
            yield


def seconds(loop: Iterator[None]) -> float:
    """Of one step, over a block."""
    began = time.perf_counter()
    for _ in range(STEPS):
        next(loop)
    return (time.perf_counter() - began) / STEPS


def in_turn(loops: list[Iterator[None]], first: int) -> list[float]:
    """Seconds a step of [bare, fit]; each goes first in every other block."""
    times = [0.0, 0.0]
    for i in (first, 1 - first):
        times[i] = seconds(loops[i])
    return times


def main() -> None:
    """Time both at three batch sizes; table on the screen, figures in runs/bench/loop.json."""
    columns = Columns({"x": torch.rand(SIZE, *SHAPE).round()})
    table = Table("batch", "bare, ms", "fit, ms", "ratio (quartiles)", title="the loop's cost")
    results = {}
    for batch_size in (16, 128, 512):
        loops = [bare(columns, batch_size), fitted(columns, batch_size)]
        for loop in loops:
            seconds(loop)
        pairs = [in_turn(loops, first=block % 2) for block in range(BLOCKS)]
        a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
        low, mid, high = statistics.quantiles([fit / base for base, fit in pairs])
        results[batch_size] = {"bare": a, "fit": b, "ratio": mid, "quartiles": [low, high]}
        spread = f"{mid:.3f} ({low:.3f} – {high:.3f})"
        table.add_row(str(batch_size), f"{1e3 * a:.2f}", f"{1e3 * b:.2f}", spread)
    Console().print(table)
    path = Path("runs/bench/loop.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
