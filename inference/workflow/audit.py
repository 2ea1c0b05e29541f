"""``audit``: for this program, which estimator is unbiased, how noisy is it, what does it cost?"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist

import numpy as np
import pyro
import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from inference.data.columns import Batch, Columns, Streamed, as_columns
from inference.engine.program.objective import backward
from inference.engine.program.program import Program, accepted_columns
from inference.engine.training.trainer import OptimizerFactory
from inference.estimators import IWAE, VIMCO, DReG, Exact, ReweightedWakeSleep
from inference.estimators.programs import StochasticFunction
from inference.util import rng
from inference.util.errors import UserError
from inference.util.progress import Bar
from inference.workflow.audit_report import FAMILY_WISE_ERROR, Audit, Row
from inference.workflow.fit import DTYPES
from inference.workflow.moments import (
    Moments,
    count_evaluations,
    directions,
    gradient_of,
    placed,
    settle,
    wait_for,
)

ADAM = functools.partial(torch.optim.Adam, lr=1e-3)
MULTI_SAMPLE = (IWAE, VIMCO, DReG, ReweightedWakeSleep, pyro.infer.RenyiELBO)


def audit(
    model: StochasticFunction,
    guide: StochasticFunction,
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
    skip_refused: bool = False,
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
        skip_refused: leave out estimators that refuse the program, and say why in ``refused``.
        progress: show a bar.

    Raises:
        UserError: an estimator refuses the program, or nothing is to be audited.
    """
    named = estimators if isinstance(estimators, Mapping) else {label(e): e for e in estimators}
    if not at:
        raise UserError("say after how many steps to audit: at=(0,)")
    if samples < 2:
        raise UserError(f"samples is {samples}: a variance needs two or more")
    if not named:
        raise UserError("give one or more estimators to audit")
    columns = as_columns(data)
    columns = columns.select(accepted_columns(model, columns.names))
    program = Program(model, guide)
    program.to(torch.device(device), DTYPES[precision])
    columns = columns.to(program.device, program.dtype)
    rows: list[Row] = []
    reference, refused = "", dict[str, str]()
    with rng.forked(seed), program.scope():
        batches = _batches(columns, batch_size, seed)
        audited = batch = next(batches)
        program.initialise(audited, len(columns))
        if skip_refused:
            named, refused = _accepted(named, program, audited)
        trainer = placed(train_with or next(iter(named.values())), program)
        own = list(trainer.parameters()) if isinstance(trainer, nn.Module) else []
        steps = optimizer([*program.parameters.values(), *own])
        for step in range(max(at) + 1):
            if step in at:
                title = f"audit after {step} steps"
                found, reference = _measure(
                    program, audited, named, samples, step, Bar(title, samples, progress)
                )
                rows += found
            if step < max(at):
                steps.zero_grad()
                backward(trainer, program, batch)
                steps.step()
                batch = next(batches)
    return Audit(rows, samples, reference, refused)


def label(estimator: ELBO) -> str:
    """Class, baseline and particles, in short."""
    inner = getattr(estimator, "elbo", estimator)
    parts = [type(b).__name__ for b in (getattr(estimator, "baseline", None),) if b is not None]
    parts += [str(inner.num_particles)] if inner.num_particles > 1 else []
    return type(inner).__name__ + (f"({', '.join(parts)})" if parts else "")


def _accepted(
    estimators: Mapping[str, ELBO], program: Program, batch: Batch
) -> tuple[dict[str, ELBO], dict[str, str]]:
    """Those that take the program, by one gradient of each, and what the others say.

    Raises:
        UserError: none takes it.
    """
    accepted, refused = {}, {}
    for name, estimator in estimators.items():
        try:
            gradient_of(placed(estimator, program), program, batch)
            accepted[name] = estimator
        except UserError as refusal:
            refused[name] = str(refusal)
    if not accepted:
        raise UserError(f"no estimator takes the program; {name} says: {refused[name]}")
    return accepted, refused


def _measure(
    program: Program,
    batch: Batch,
    estimators: Mapping[str, ELBO],
    samples: int,
    step: int,
    bar: Bar,
) -> tuple[list[Row], str]:
    settled = {name: settle(placed(e, program), program, batch) for name, e in estimators.items()}
    evaluations = {name: count_evaluations(e, program, batch) for name, e in settled.items()}
    across = directions(sum(p.numel() for p in program.parameters.values()), program)
    moments = {name: Moments(across) for name in settled}
    with bar:
        for i in range(samples):
            for name, estimator in settled.items():  # turn by turn, so that all share the weather
                start = time.perf_counter()
                gradient = gradient_of(estimator, program, batch)
                wait_for(gradient)
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
        norm, deviation = float(target.norm()), math.sqrt(float(mine.variance.sum()))
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
                norm / deviation if deviation else math.inf,
                evaluations[name],
                1e3 * float(np.median(mine.seconds)),
                _by_parameter(program, mine.variance),
            )
        )
    return rows, "the exact gradient" if exact is not None else "the quietest unbiased estimator"


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


def _worst(mine: tuple[Tensor, Tensor], known: tuple[Tensor, Tensor]) -> float:
    """Largest |z| of the difference of two (mean, error), each (Q,)."""
    return float(((mine[0] - known[0]) / torch.hypot(mine[1], known[1])).abs().max())


def _exact(program: Program, batch: Batch) -> Tensor | None:
    """(P,) the enumerated gradient, where that is possible."""
    try:
        return gradient_of(Exact(max_plate_nesting=program.nesting), program, batch)
    except (UserError, RuntimeError, ValueError, NotImplementedError):
        return None


def _batches(columns: Columns | Streamed, batch_size: int | None, seed: int) -> Iterator[Batch]:
    """Epoch after epoch, as ``fit`` draws them."""
    for epoch in itertools.count():
        yield from columns.batches(columns.order(batch_size, seed, epoch))


def _by_parameter(program: Program, variance: Tensor) -> dict[str, float]:
    sizes = [p.numel() for p in program.parameters.values()]
    parts = variance.split(sizes)
    return {n: float(v.sum()) for n, v in zip(program.parameters, parts, strict=True)}
