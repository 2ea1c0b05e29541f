"""Eight seeds trained at once against eight in turn (on a GPU: against one)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from benchmarks import vae
from benchmarks.timing import Row, Step, in_turn, rows
from inference.data.columns import Columns
from inference.engine.gradient.all_seeds import AllSeedsGradient
from inference.engine.gradient.captured import CapturedGradient
from inference.engine.program.program import Program
from inference.engine.training.loop import TrainingRun, take_step
from inference.engine.training.plan import Plan
from inference.engine.training.seed_training import SeedTraining, own_gradient
from inference.estimators import Pathwise

SEEDS, SIZE, BATCH = 8, 20_000, 16
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GOALS = {"one seed": 1.5} if DEVICE.type == "cuda" else {"8 in turn": 1.0}


def tiny() -> Program:
    """z_n ~ N(0, 1), x_n ~ N(z_n, 1), q(z_n) = N(a x_n, s): two parameters."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", SIZE, subsample=x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        a = pyro.param("a", lambda: torch.tensor(0.1))
        s = pyro.param("s", lambda: torch.tensor(0.5), constraint=dist.constraints.positive)
        with pyro.plate("data", SIZE, subsample=x):
            pyro.sample("z", dist.Normal(a * x, s))

    return Program(model, guide)


def begun(program: Program, columns: Columns, seed: int) -> SeedTraining:
    """One seed's training, compiling."""
    plan = Plan(rows=SIZE, steps=10**6, batch_size=BATCH, device=DEVICE, compile=True)
    program.to(plan.device, plan.dtype)
    with program.scope():
        return SeedTraining(program, Pathwise(), data=columns, plan=plan, seed=seed)


def stepping(training: TrainingRun) -> Step:
    """fit's step, with its data, trace, norm and check for NaN, epoch after epoch."""

    def loop() -> Iterator[None]:
        with training.opened():  # entered once for all steps, as in fit
            while True:
                for batch in training.batches():
                    take_step(training, batch)
                    yield

    return partial(next, loop())


def measure() -> Iterator[Row]:
    """Rows for a program of two parameters, and the VAE."""
    works = {
        "two parameters": (tiny, torch.randn(SIZE)),
        "VAE": (vae.program, torch.rand(SIZE, *vae.SHAPE).round()),
    }
    for work, (program, x) in works.items():
        columns = Columns({"x": x.to(DEVICE)})
        streams, each = [], []
        for seed in range(SEEDS):
            each.append(begun(program(), columns, seed))
            streams.append(each[-1].keep_stream())
        gradient = AllSeedsGradient(
            [own_gradient(s, CapturedGradient, None) for s in each], streams
        )
        alone = begun(program(), columns, 0)
        one = stepping(TrainingRun([alone], alone.gradient(), vae.Adam))
        contenders: dict[str, Step] = {
            f"{SEEDS} seeds at once": stepping(TrainingRun(each, gradient, vae.Adam)),
            f"{SEEDS} in turn": partial(repeated, one),
            "one seed": one,
        }
        times = in_turn(contenders, blocks=40, steps=5)
        yield from rows(f"{work}, batch {BATCH}", f"{SEEDS} seeds at once", GOALS, times)


def repeated(step: Step) -> None:
    """As many steps as there are seeds."""
    for _ in range(SEEDS):
        step()
