"""Verdicts from measured gradients: the bound, the reference, biased or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from pyro.infer import (
    ELBO,
    RenyiELBO,
    Trace_ELBO,
    Trace_MMD,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
)
from pyro.poutine import Trace
from torch import Tensor

from inference.data.columns import Batch
from inference.engine.program.program import Program
from inference.estimators import IWAE, VIMCO, DReG, Exact, ReweightedWakeSleep
from inference.util.errors import UserError
from inference.util.sites import sample_sites
from inference.workflow.auditing.bias import Sample, log_level, log_wealth, resolution
from inference.workflow.auditing.moments import Moments, gradient_of, rounding
from inference.workflow.auditing.report import EXACT, Verdict

MULTI_SAMPLE = (IWAE, VIMCO, DReG, ReweightedWakeSleep, RenyiELBO)
OTHER_BOUNDS = (Trace_MMD, TraceTailAdaptive_ELBO)
UNBIASED = (Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO)  # estimators of Pyro
CONVERGED = 1e-3  # relative to the norm: tolerance between two quadratures, or two runs


@dataclass(frozen=True)
class Measured:
    """An estimator's gradients.

    Attributes:
        estimator: its state adapted and fixed.
        bound: whose gradient it estimates, see ``bound_of``.
        is_unbiased: by construction, see ``is_unbiased``.
        moments: of its gradients.
        evaluations: model runs for one gradient.
    """

    estimator: ELBO
    bound: str
    is_unbiased: bool
    moments: Moments
    evaluations: int


class ExactGradient(NamedTuple):
    """By enumeration and quadrature, (P,), and how far a coarser quadrature is from it, (P,)."""

    mean: Tensor
    quadrature: Tensor


@dataclass(frozen=True)
class Reference:
    """The reference of a mean: its name, the (P,) gradient, its standard error, its draws."""

    name: str
    mean: Tensor
    error: Tensor
    sample: Sample


def bound_of(estimator: ELBO, undrawn: Sequence[str] = ()) -> str:
    """The bound whose gradient an estimator estimates, if the guide does not draw these latents."""
    inner = getattr(estimator, "elbo", estimator)
    if isinstance(inner, OTHER_BOUNDS):
        return type(inner).__name__
    many = isinstance(inner, MULTI_SAMPLE) and inner.num_particles > 1
    name = f"L_{inner.num_particles}" if many else "ELBO"
    if not undrawn:
        return name
    sites = ", ".join(undrawn)
    summed = isinstance(inner, TraceEnum_ELBO)
    return f"{name}, summed over {sites}" if summed else f"{name}, {sites} drawn by the model"


def of_guide_alone(model: Trace, guide: Trace) -> list[str]:
    """Sites of the guide alone, where it has a draw or factor that no gradient passes through.

    Pyro's ``Trace_ELBO`` forgets their −log q in what it charges such a draw with, and
    ``TraceGraph_ELBO`` the score of a ``pyro.factor``.
    """
    sites = sample_sites(guide)
    if all(site["fn"].has_rsample for site in sites.values()):
        return []
    return [name for name in sites if name not in model.nodes]


def is_unbiased(
    estimator: ELBO, undrawn: Sequence[str] = (), guide_alone: Sequence[str] = ()
) -> bool:
    """Whether it is unbiased by construction, and may serve as a reference."""
    if undrawn or (guide_alone and isinstance(estimator, UNBIASED)):
        return isinstance(estimator, TraceEnum_ELBO)
    pyros = isinstance(estimator, UNBIASED) and not isinstance(estimator, TraceMeanField_ELBO)
    return getattr(estimator, "unbiased", pyros)


def exact_gradient(program: Program, batch: Batch) -> tuple[ExactGradient | None, str]:
    """(the exact gradient, ""), or (None, the reason)."""
    nesting = program.nesting
    try:
        fine = gradient_of(Exact(max_plate_nesting=nesting), program, batch)
        coarse = gradient_of(Exact(nodes=24, max_plate_nesting=nesting), program, batch)
    except (UserError, RuntimeError, ValueError, NotImplementedError) as refusal:
        return None, str(refusal).strip().partition("\n")[0]
    if not (fine - coarse).norm() <= CONVERGED * fine.norm():
        return None, (
            "the quadrature over its Normal latents has not converged, or the program draws random "
            "numbers that are no latents"
        )
    return ExactGradient(fine, (fine - coarse).abs()), ""


def verdicts(
    program: Program,
    measured: Mapping[str, Measured],
    exact: ExactGradient | None,
    step: int,
    tests: int,
) -> list[Verdict]:
    """A verdict for each estimator; ``tests`` tests share the family-wise error."""
    return [
        _verdict(name, program, mine, _reference(name, measured, exact, tests), (step, tests))
        for name, mine in measured.items()
    ]


def _verdict(
    name: str, program: Program, mine: Measured, known: Reference | None, at: tuple[int, int]
) -> Verdict:
    step, tests = at
    moments, worst, bias, least = mine.moments, math.nan, math.nan, math.nan
    norm = float(torch.as_tensor(moments.mean if known is None else known.mean).norm())
    if known is not None:
        difference = moments.sample().minus(known.sample)
        worst = math.sqrt(2 * max(0.0, log_wealth(difference)))
        least = _norm_of(resolution(difference, tests), moments) / norm if norm else math.inf
        noise = moments.error.square() + known.error.square()
        excess = float(((moments.mean - known.mean) ** 2 - noise).sum())
        bias = math.sqrt(max(0.0, excess)) / norm if norm else math.nan
    deviation = math.sqrt(float(moments.variance.sum()))
    return Verdict(
        name=name,
        step=step,
        bound=mine.bound,
        against="" if known is None else known.name,
        worst_z=worst,
        critical=math.sqrt(2 * log_level(tests)),
        bias=bias,
        resolution=least,
        variance=float(moments.variance.sum()),
        second_moment=moments.second_moment,
        signal_to_noise=norm / deviation if deviation else math.inf,
        evaluations=mine.evaluations,
        milliseconds=1e3 * float(np.median(moments.seconds)),
        by_parameter=_by_parameter(program, moments.variance),
    )


def _reference(
    name: str, measured: Mapping[str, Measured], exact: ExactGradient | None, tests: int
) -> Reference | None:
    """The exact gradient, else the most precise of the other unbiased estimators of the bound."""
    mine = measured[name]
    if exact is not None and mine.bound == "ELBO":
        directions = mine.moments.directions
        draws = (directions @ exact.mean).double()[None]
        allowed = rounding(draws, exact.mean.dtype) + directions.abs() @ exact.quadrature
        sample = Sample(draws, torch.zeros_like(draws[0]), allowed)
        return Reference(EXACT, exact.mean, torch.zeros_like(exact.mean), sample)
    peers = {
        n: m for n, m in measured.items() if n != name and m.bound == mine.bound and m.is_unbiased
    }
    if not peers:
        return None
    samples = {n: m.moments.sample() for n, m in peers.items()}
    best = min(samples, key=lambda n: _norm_of(resolution(samples[n], tests), mine.moments))
    found = peers[best].moments
    return Reference(best, torch.as_tensor(found.mean), found.error, samples[best])


def _norm_of(resolution: Tensor, moments: Moments) -> float:
    """Norm of the smallest gradient that is detected in any direction.

    A gradient's projection on a Gaussian direction is its norm times a standard normal number.
    """
    each = len(resolution) == moments.directions.shape[1]
    return float(resolution.norm() if each else resolution.median())


def _by_parameter(program: Program, variance: Tensor) -> dict[str, float]:
    sizes = [p.numel() for p in program.parameters.values()]
    parts = variance.split(sizes)
    return {n: float(v.sum()) for n, v in zip(program.parameters, parts, strict=True)}
