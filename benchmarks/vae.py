"""A VAE (784-400-20): fit, uncompiled and compiled, against Pyro, plain PyTorch and NumPyro."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import Row, Step, in_turn, rows
from guides.amortized import AmortizedGaussian
from inference.data.columns import Batch, Columns, epoch_order
from inference.engine.processes import Processes
from inference.engine.program.program import Program
from inference.engine.training.loop import TrainingRun, take_step
from inference.engine.training.plan import Plan
from inference.engine.training.seed_training import SeedTraining
from inference.estimators import Pathwise
from ppl_models.likelihoods import Bernoulli
from ppl_models.networks import image_decoder, image_encoder
from ppl_models.vae import VAE

SIZE, SHAPE, LATENT, HIDDEN = 20_000, (1, 28, 28), 20, 400
Adam = partial(torch.optim.Adam, lr=1e-3, fused=True)
GOALS = {"plain PyTorch": 1.0, "NumPyro, jitted": 1.1}


def columns() -> Columns:
    """Random images."""
    return Columns({"x": torch.rand(SIZE, *SHAPE).round()})


def program() -> Program:
    """The VAE of the benchmark."""
    torch.manual_seed(0)
    model = VAE(image_decoder(SHAPE, [HIDDEN], LATENT, nn.ReLU), Bernoulli(), LATENT, SIZE)
    encoder = image_encoder(SHAPE, [HIDDEN], 2 * LATENT, nn.ReLU)
    return Program(model, AmortizedGaussian(encoder, SIZE))


def batches(
    columns: Columns, batch_size: int, processes: Processes | None = None
) -> Iterator[Batch]:
    """Batches as fit draws them, epoch after epoch; this process's shard."""
    shard = (processes or Processes(torch.device("cpu"))).shard
    epoch = 0
    while True:
        order = epoch_order(len(columns), batch_size, 0, epoch)
        whole = [i for i in order if i is not None and len(i) == batch_size]
        yield from columns.batches([shard(i, SIZE) for i in whole])
        epoch += 1


def fitted(
    columns: Columns, batch_size: int, compiled: bool, processes: Processes | None = None
) -> Step:
    """The step that fit takes, with its trace, norm, schedule and check for NaN."""

    def loop() -> Iterator[None]:
        p, cpu = program(), torch.device("cpu")
        plan = Plan(rows=SIZE, steps=10**6, batch_size=batch_size, device=cpu, compile=compiled)
        estimator = Pathwise() if compiled else Trace_ELBO()
        with p.scope():  # entered once for all steps, as in fit
            seed = SeedTraining(p, estimator, data=columns, plan=plan, seed=0, processes=processes)
            training = TrainingRun([seed], seed.gradient(), Adam)
            for batch in batches(columns, batch_size, processes):
                take_step(training, batch)
                yield

    return partial(next, loop())


def bare(columns: Columns, batch_size: int) -> Step:
    """Pyro by hand: zero_grad, ELBO, backward, step."""
    p, elbo, drawn = program(), Trace_ELBO(), batches(columns, batch_size)
    optimizer = Adam([*p.model.parameters(), *p.guide.parameters()])  # type: ignore[attr-defined]

    def step() -> None:
        optimizer.zero_grad()
        (elbo.differentiable_loss(p.model, p.guide, **next(drawn)) / SIZE).backward()
        optimizer.step()

    return step


def svi(columns: Columns, batch_size: int) -> Step:
    """Pyro's own step."""
    p, drawn = program(), batches(columns, batch_size)
    steps = SVI(p.model, p.guide, PyroOptim(torch.optim.Adam, {"lr": 1e-3}), Trace_ELBO())
    return lambda: steps.step(**next(drawn))


class Plain(nn.Module):
    """The same VAE without Pyro."""

    def __init__(self) -> None:
        super().__init__()
        pixels = SHAPE[1] * SHAPE[2]
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT)
        )
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, pixels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """−ELBO, one draw, nats per datum; every term sampled, as Trace_ELBO does."""
        loc, log_scale = self.encoder(x).chunk(2, -1)
        noise = torch.randn_like(loc)
        z = loc + log_scale.exp() * noise
        log_ratio = 0.5 * (noise.square() - z.square()) + log_scale  # log p(z) − log q(z)
        error = F.binary_cross_entropy_with_logits(self.decoder(z), x.flatten(1), reduction="sum")
        return (error - log_ratio.sum()) / len(x)


def plain(columns: Columns, batch_size: int) -> Step:
    """Plain PyTorch: zero_grad, loss, backward, step."""
    module, drawn = Plain(), batches(columns, batch_size)
    optimizer = Adam(module.parameters())

    def step() -> None:
        optimizer.zero_grad()
        module(next(drawn)["x"]).backward()
        optimizer.step()

    return step


def measure() -> Iterator[Row]:
    """Rows at three batch sizes."""
    data = columns()
    for batch_size in (16, 128, 512):
        work = f"VAE, batch {batch_size}"
        contenders = {
            "compiled": fitted(data, batch_size, compiled=True),
            "fit": fitted(data, batch_size, compiled=False),
            "bare Pyro": bare(data, batch_size),
            "SVI.step": svi(data, batch_size),
            "plain PyTorch": plain(data, batch_size),
        }
        try:
            from benchmarks.numpyro_vae import update
        except ImportError:
            print("NumPyro is not installed: its rows are left out (pip install '.[bench]')")
        else:
            contenders["NumPyro, jitted"] = update(data, batch_size)
        times = in_turn(contenders, blocks=60, steps=max(2, 256 // batch_size))
        svi_goal = {"SVI.step": 0.4} if batch_size == 16 else {}
        yield from rows(work, "compiled", GOALS | svi_goal, times)
        yield from rows(work, "fit", {"bare Pyro": 1.05}, times)
