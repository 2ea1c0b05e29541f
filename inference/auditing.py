"""``audit``: for this program, which estimator is unbiased, how noisy is it, what does it cost?"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyro
import torch
import xarray as xr
from matplotlib.figure import Figure
from pyro.infer import ELBO
from rich import box
from rich.table import Table
from torch import Tensor, nn

from inference import plots, rng
from inference.data.columns import Batch, Columns, Streamed, as_columns, epoch_order
from inference.errors import UserError
from inference.estimators import IWAE, VIMCO, DReG, Exact, ReweightedWakeSleep
from inference.estimators.base import Program as Callee
from inference.objective import backward
from inference.program import Program, accepted_columns
from inference.progress import Bar
from inference.svi import DTYPES
from inference.trainer import OptimizerFactory

FAMILY_WISE_ERROR = 1e-3
FEW, DIRECTIONS = 32, 32
SETTLING_STEPS = 100  # in which baselines and temperatures find their place, at fixed parameters
ADAM = functools.partial(torch.optim.Adam, lr=1e-3)
MULTI_SAMPLE = (IWAE, VIMCO, DReG, ReweightedWakeSleep, pyro.infer.RenyiELBO)


@dataclass
class Moments:
    """Running mean and variance of gradients, (P,) each, their shadows, and what they cost.

    A bias is tested in a few directions, each a sum over many parameters: one parameter's
    gradient can be so rarely other than zero that its sample variance means nothing.
    """

    directions: Tensor
    shadows: list[Tensor] = field(default_factory=list)
    count: int = 0
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    seconds: list[float] = field(default_factory=list)

    def add(self, gradient: Tensor, seconds: float) -> None:
        """Welford's update."""
        self.count += 1
        step = gradient - self.mean
        self.mean = self.mean + step / self.count
        self.squares = self.squares + step * (gradient - self.mean)
        self.shadows.append(self.directions @ gradient)
        self.seconds.append(seconds)

    def shadow(self) -> tuple[Tensor, Tensor]:
        """(Q,) mean and its standard error in each direction, with room for rounding."""
        cast = torch.stack(self.shadows).double()
        rounding = 16 * torch.finfo(self.directions.dtype).eps * cast.abs().max()
        return cast.mean(0), cast.std(0) / len(cast) ** 0.5 + rounding

    @property
    def variance(self) -> Tensor:
        """(P,) of one gradient."""
        return torch.as_tensor(self.squares) / max(1, self.count - 1)

    @property
    def error(self) -> Tensor:
        """(P,) standard error of the mean, with room for rounding."""
        mean = torch.as_tensor(self.mean)
        rounding = 4 * torch.finfo(mean.dtype).eps * mean.abs().max()
        return (self.variance / self.count).sqrt() + rounding


@dataclass(frozen=True)
class Row:
    """One estimator at one moment of training; gradients are those of nats per datum.

    Attributes:
        name, step: which, and after how many steps.
        bound: "ELBO", or "L_K" for the K-sample bounds.
        worst_z: largest |z| of mean − reference over the directions; nan without a reference.
        critical: what it may not exceed if there is no bias, at the family-wise error.
        bias: ‖mean − reference‖ / ‖reference‖, what noise alone would give taken off.
        resolution: the same for the noise alone: a bias well below it stays unseen.
        variance: of one gradient, summed over parameters.
        signal_to_noise: ‖reference‖ / √variance.
        evaluations: runs of the model for one gradient, particles counted one by one.
        milliseconds: of one gradient, median.
        by_parameter: name → variance, summed over its entries.
    """

    name: str
    step: int
    bound: str
    worst_z: float
    critical: float
    bias: float
    resolution: float
    variance: float
    signal_to_noise: float
    evaluations: int
    milliseconds: float
    by_parameter: Mapping[str, float]

    @property
    def work(self) -> float:
        """Variance × milliseconds: the time to a given precision; estimators rank by it."""
        return self.variance * self.milliseconds

    @property
    def biased(self) -> bool:
        """Whether a bias was seen."""
        return self.worst_z > self.critical


@dataclass(frozen=True)
class Audit:
    """Rows, their ``table()``, ``plot(path)`` and ``tree``."""

    rows: Sequence[Row]
    samples: int
    reference: str

    def table(self, step: int | None = None) -> Table:
        """For the screen: the estimators after ``step`` steps (the last), least work first."""
        step = max(r.step for r in self.rows) if step is None else step
        table = Table(
            title=f"gradients after {step} steps, {self.samples} of each; against {self.reference}",
            caption="work = variance × ms; bias: % of the gradient's norm, ! where seen\n"
            f"(family-wise error {FAMILY_WISE_ERROR:g}), else what it is below",
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=0,
        )
        table.add_column("estimator", overflow="fold")
        for heading in ("bound", "bias %", "|z|", "variance", "SNR", "evals", "ms", "work"):
            table.add_column(heading, justify="right", no_wrap=True)
        for r in sorted((r for r in self.rows if r.step == step), key=lambda r: (r.bound, r.work)):
            known = not math.isnan(r.worst_z)
            table.add_row(
                r.name,
                r.bound,
                _bias(r) if known else "–",
                f"{r.worst_z:.1f}" if known else "–",
                f"{r.variance:.3g}",
                f"{r.signal_to_noise:.2g}",
                str(r.evaluations),
                f"{r.milliseconds:.2f}",
                f"{r.work:.3g}",
            )
        return table

    def plot(self, path: Path) -> None:
        """Work and variance of each estimator; along training if there are several moments."""
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        steps = sorted({r.step for r in self.rows})
        if len(steps) == 1:
            _bars(left, self.rows, "variance")
            _bars(right, self.rows, "work")
        else:
            _curves(left, self.rows, "variance")
            _curves(right, self.rows, "work")
            figure.legend(*right.get_legend_handles_labels(), loc="outside right upper")
        left.set_title("variance of one gradient")
        right.set_title("variance × milliseconds")
        plots.save(figure, path)

    @property
    def tree(self) -> xr.DataTree:
        """Groups ``audit`` (estimator, step) and ``by_parameter`` (estimator, step, parameter)."""
        names = list(dict.fromkeys(r.name for r in self.rows))
        steps = sorted({r.step for r in self.rows})
        at = {(r.name, r.step): r for r in self.rows}
        columns = [
            *("worst_z", "critical", "bias", "resolution", "variance", "signal_to_noise"),
            *("evaluations", "milliseconds", "work"),
        ]
        coords = {"estimator": names, "step": steps}
        grid = [[at[n, s] for s in steps] for n in names]
        audit = xr.Dataset(
            {
                c: (("estimator", "step"), [[float(getattr(r, c)) for r in line] for line in grid])
                for c in columns
            },
            coords=coords,
        )
        parameters = list(self.rows[0].by_parameter)
        values = [[[r.by_parameter[p] for p in parameters] for r in line] for line in grid]
        dims = ("estimator", "step", "parameter")
        group = xr.Dataset({"variance": (dims, values)}, coords={**coords, "parameter": parameters})
        return xr.DataTree.from_dict({"audit": audit, "by_parameter": group})


def audit(
    model: Callee,
    guide: Callee,
    data: Columns | Streamed | Mapping[str, Tensor],
    estimators: Sequence[ELBO] | Mapping[str, ELBO],
    *,
    samples: int = 500,
    batch_size: int | None = None,
    at: Sequence[int] = (0,),
    train_with: ELBO | None = None,
    optimizer: OptimizerFactory = ADAM,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "float32",
    progress: bool = True,
) -> Audit:
    """Measure bias, variance and cost of gradient estimators on a program.

    The batch is fixed; the noise is that of the guide's draws.  The reference is the exact
    gradient where every latent can be enumerated, else the mean of the quietest estimator that is
    unbiased by construction; each bound has its own.  Baselines and temperatures settle first at
    the fixed parameters, then stay.

    Args:
        model, guide: the program; trained in place if ``at`` has steps beyond 0.
        data: columns.
        estimators: ours or Pyro's, by name if you like.
        samples: gradients of each.
        batch_size: rows in the batch (None: all).
        at: after how many optimiser steps to measure.
        train_with: the estimator that takes these steps; the first unless given.
        optimizer: parameters → optimiser of these steps.
        seed: of all noise.
        device: "cpu", "cuda", …
        precision: "float32" or "float64".
        progress: show a bar.

    Raises:
        UserError: an estimator refuses the program, or nothing is to be audited.
    """
    named = estimators if isinstance(estimators, Mapping) else {label(e): e for e in estimators}
    if not named:
        raise UserError("give one or more estimators to audit")
    columns = as_columns(data)
    columns = columns.select(accepted_columns(model, list(columns.tensors)))
    program = Program(model, guide)
    program.to(torch.device(device), DTYPES[precision])
    columns = columns.to(program.device, program.dtype)
    rows: list[Row] = []
    reference = ""
    with rng.forked(seed), program.scope():
        batches = _batches(columns, batch_size, seed, max(at) + 1)
        program.initialise(batches[0], len(columns))
        trainer = _placed(train_with or next(iter(named.values())), program)
        own = list(trainer.parameters()) if isinstance(trainer, nn.Module) else []
        steps = optimizer([*program.parameters.values(), *own])
        for step in range(max(at) + 1):
            if step in at:
                title = f"audit after {step} steps"
                found, reference = _measure(
                    program, batches[0], named, samples, step, Bar(title, samples, progress)
                )
                rows += found
            if step < max(at):
                steps.zero_grad()
                backward(trainer, program, batches[step])
                steps.step()
    return Audit(rows, samples, reference)


def label(estimator: ELBO) -> str:
    """Class, baseline and particles, in short."""
    inner = getattr(estimator, "elbo", estimator)
    parts = [type(b).__name__ for b in (getattr(estimator, "baseline", None),) if b is not None]
    parts += [str(inner.num_particles)] if inner.num_particles > 1 else []
    return type(inner).__name__ + (f"({', '.join(parts)})" if parts else "")


def _measure(
    program: Program,
    batch: Batch,
    estimators: Mapping[str, ELBO],
    samples: int,
    step: int,
    bar: Bar,
) -> tuple[list[Row], str]:
    settled = {name: _settle(_placed(e, program), program, batch) for name, e in estimators.items()}
    evaluations = {name: _count(e, program, batch) for name, e in settled.items()}
    across = directions(sum(p.numel() for p in program.parameters.values()), program)
    moments = {name: Moments(across) for name in settled}
    with bar:
        for i in range(samples):
            for name, estimator in settled.items():  # turn by turn, so that all share the weather
                start = time.perf_counter()
                gradient = gradient_of(estimator, program, batch)
                _wait(gradient)
                moments[name].add(gradient, time.perf_counter() - start)
            if bar.due:
                bar.update(i + 1, "")
        bar.update(samples, "")
    return _rows(program, batch, settled, moments, evaluations, step)


def _rows(
    program: Program,
    batch: Batch,
    estimators: Mapping[str, ELBO],
    moments: Mapping[str, Moments],
    evaluations: Mapping[str, int],
    step: int,
) -> tuple[list[Row], str]:
    exact = _exact(program, batch)
    tests = len(next(iter(moments.values())).directions) * len(estimators)
    critical = NormalDist().inv_cdf(1 - FAMILY_WISE_ERROR / (2 * tests))
    rows = []
    for name, estimator in estimators.items():
        bound = bound_of(estimator)
        mine = moments[name]
        if exact is not None and bound == "ELBO":
            target, error, shadow = exact, torch.zeros_like(exact), mine.directions @ exact
            known: tuple[Tensor, Tensor] = (shadow, torch.zeros_like(shadow))
        else:
            target, error, known = _quietest(bound, name, estimators, moments)
        gap, noise = mine.mean - target, (mine.error**2 + error**2).sqrt()
        norm = float(target.norm())
        excess = float((gap**2).sum() - (noise**2).sum())
        rows.append(
            Row(
                name,
                step,
                bound,
                _worst(mine.shadow(), known),
                critical,
                math.sqrt(max(0.0, excess)) / norm if norm else math.nan,
                float(noise.norm()) / norm if norm else math.nan,
                float(mine.variance.sum()),
                norm / math.sqrt(max(float(mine.variance.sum()), 1e-300)),
                evaluations[name],
                1e3 * float(np.median(mine.seconds)),
                _by_parameter(program, mine.variance),
            )
        )
    return rows, "the exact gradient" if exact is not None else "the quietest unbiased estimator"


def gradient_of(estimator: ELBO, program: Program, batch: Batch) -> Tensor:
    """(P,) one gradient of the loss per datum, all parameters side by side."""
    parameters = list(program.parameters.values())
    for parameter in parameters:
        parameter.grad = None
    backward(estimator, program, batch)
    flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([g.flatten() for g in flat]).detach()


def bound_of(estimator: ELBO) -> str:
    """Which bound an estimator follows."""
    inner = getattr(estimator, "elbo", estimator)
    many = isinstance(inner, MULTI_SAMPLE) and inner.num_particles > 1
    return f"L_{inner.num_particles}" if many else "ELBO"


def is_unbiased(estimator: ELBO) -> bool:
    """By construction: what may serve as a reference."""
    return getattr(estimator, "unbiased", not isinstance(estimator, MULTI_SAMPLE))


def _quietest(
    bound: str, name: str, estimators: Mapping[str, ELBO], moments: Mapping[str, Moments]
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Mean, error and shadow of the quietest unbiased other estimator; nan if there is none."""
    peers = [
        n for n, e in estimators.items() if n != name and bound_of(e) == bound and is_unbiased(e)
    ]
    if not peers:
        own, shadow = torch.as_tensor(moments[name].mean), moments[name].shadow()[0]
        return own, torch.full_like(own, math.nan), (shadow, torch.full_like(shadow, math.nan))
    best = min(peers, key=lambda n: float(moments[n].variance.sum()))
    return torch.as_tensor(moments[best].mean), moments[best].error, moments[best].shadow()


def _bias(row: Row) -> str:
    """Seen with a mark, or the least that would have been seen."""
    if row.biased:
        return f"{100 * row.bias:.0f}!"
    return f"<{100 * max(row.bias, 2 * row.resolution):.0f}"


def _worst(mine: tuple[Tensor, Tensor], known: tuple[Tensor, Tensor]) -> float:
    """Largest |z| of the difference of two (mean, error), each (Q,)."""
    return float(((mine[0] - known[0]) / torch.hypot(mine[1], known[1])).abs().max())


def directions(size: int, program: Program) -> Tensor:
    """(Q, P) each parameter by itself if they are few, else Gaussian directions over all."""
    if size <= FEW:
        return torch.eye(size, dtype=program.dtype, device=program.device)
    draws = np.random.default_rng(0).standard_normal((DIRECTIONS, size))
    return torch.as_tensor(draws, dtype=program.dtype, device=program.device)


def _exact(program: Program, batch: Batch) -> Tensor | None:
    """(P,) the enumerated gradient, where that is possible."""
    try:
        return gradient_of(Exact(max_plate_nesting=program.nesting), program, batch)
    except (UserError, RuntimeError, ValueError, NotImplementedError):
        return None


def _placed(estimator: ELBO, program: Program) -> ELBO:
    """A copy where the program is."""
    own = copy.deepcopy(estimator)
    return own.to(program.device, program.dtype) if isinstance(own, nn.Module) else own


def _settle(estimator: ELBO, program: Program, batch: Batch) -> ELBO:
    """Let its state adapt to the program, then hold it."""
    if not isinstance(estimator, nn.Module):
        return estimator
    own = list(estimator.parameters())
    optimizer = torch.optim.Adam(own, lr=1e-2) if own else None
    if any(True for _ in estimator.children()) or own:
        for _ in range(SETTLING_STEPS):
            estimator.zero_grad()
            gradient_of(estimator, program, batch)
            if optimizer:
                optimizer.step()
    return estimator.eval()


def _count(estimator: ELBO, program: Program, batch: Batch) -> int:
    """Runs of the model for one gradient."""
    calls = 0

    def counted(**columns: Any) -> Any:
        nonlocal calls
        calls += 1
        return program.model(**columns)

    watched = copy.copy(program)
    watched.model = counted
    gradient_of(estimator, watched, batch)
    inner = getattr(estimator, "elbo", estimator)
    return calls * (inner.num_particles if inner.vectorize_particles else 1)


def _batches(
    columns: Columns | Streamed, batch_size: int | None, seed: int, count: int
) -> list[Batch]:
    found: list[Batch] = []
    epoch = 0
    while len(found) < count:
        order = epoch_order(len(columns), batch_size, seed, epoch)
        found += list(columns.batches(order[: count - len(found)]))
        epoch += 1
    return found


def _by_parameter(program: Program, variance: Tensor) -> dict[str, float]:
    sizes = [p.numel() for p in program.parameters.values()]
    parts = variance.split(sizes)
    return {n: float(v.sum()) for n, v in zip(program.parameters, parts, strict=True)}


def _wait(value: Tensor) -> None:
    if value.device.type == "cuda":
        torch.cuda.synchronize(value.device)


def _bars(axis: Any, rows: Sequence[Row], quantity: str) -> None:
    ordered = sorted(rows, key=lambda r: -getattr(r, quantity))
    values = [getattr(r, quantity) for r in ordered]
    names = [f"{r.name}{' (biased)' if r.biased else ''}" for r in ordered]
    axis.barh(names, values, color=["0.7" if r.biased else "C0" for r in ordered])
    axis.set_xscale("log")


def _curves(axis: Any, rows: Sequence[Row], quantity: str) -> None:
    for name in dict.fromkeys(r.name for r in rows):
        mine = sorted((r for r in rows if r.name == name), key=lambda r: r.step)
        axis.plot([r.step for r in mine], [getattr(r, quantity) for r in mine], "o-", label=name)
    axis.set(yscale="log", xlabel="step")
