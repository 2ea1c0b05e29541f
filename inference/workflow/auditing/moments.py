"""Sampled gradients of an estimator: moments and cost, at adapted and fixed internal state."""

from __future__ import annotations

import copy
import functools
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from torch import Tensor, nn

from inference.data.columns import Batch
from inference.engine.program.objective import backward
from inference.engine.program.program import Program
from inference.engine.sparse_rows import as_dense
from inference.util.errors import UserError
from inference.util.sites import sample_sites
from inference.workflow.auditing.bias import Sample

FEW, DIRECTIONS = 32, 32
SETTLING_STEPS = 100  # steps for baselines and temperatures to adapt, at fixed parameters


@dataclass
class Moments:
    """Running mean and variance of gradients, (P,) each, their projections and cost.

    Attributes:
        directions: (Q, P) to project on, in which a bias is tested.
        counted: (P,) 1 for what belongs to the bound, else 0, see ``of_the_bound``.
        shadows: (Q,) projections of each gradient.
        rare: (Q,) projections of gradients with a rare draw, which the moments leave out.
        seconds: of each gradient.
    """

    directions: Tensor
    counted: Tensor | float = 1.0
    shadows: list[Tensor] = field(default_factory=list)
    rare: list[Tensor] = field(default_factory=list)
    count: int = 0
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    seconds: list[float] = field(default_factory=list)

    def add(self, gradient: Tensor, seconds: float) -> None:
        """Welford's update."""
        self.count += 1
        gradient = gradient * self.counted
        step = gradient - self.mean
        self.mean = self.mean + step / self.count
        self.squares = self.squares + step * (gradient - self.mean)
        self.shadows.append(self.directions @ gradient)
        self.seconds.append(seconds)

    def add_rare(self, gradient: Tensor) -> None:
        """Add a gradient with a rare draw."""
        self.rare.append(self.directions @ (gradient * self.counted))

    def sample(self) -> Sample:
        """The projections as a sample."""
        draws = torch.stack(self.shadows).double()
        every = torch.cat([draws, *(r.double()[None] for r in self.rare)]).nan_to_num(0.0)
        deviation = (every - draws.mean(0)).abs().amax(0)
        return Sample(draws, deviation, rounding(draws, self.directions.dtype))

    @property
    def variance(self) -> Tensor:
        """(P,) of one gradient."""
        return torch.as_tensor(self.squares) / max(1, self.count - 1)

    @property
    def second_moment(self) -> float:
        """E ‖g‖², as the variance and the squared mean, less what noise adds to the latter."""
        mean, variance = torch.as_tensor(self.mean), self.variance
        return float((mean.square() + variance * (1 - 1 / max(1, self.count))).sum())

    @property
    def error(self) -> Tensor:
        """(P,) standard error of the mean."""
        return (self.variance / self.count).sqrt()


def rounding(draws: Tensor, dtype: torch.dtype) -> Tensor:
    """(Q,) how far numbers of this size may be from what they stand for: half of their digits.

    A gradient is a sum whose terms cancel: those of a value that q gives probability 1 − 10⁻⁴ are
    10⁴ times as large as what is left.
    """
    return (torch.finfo(dtype).eps ** 0.5 * draws.abs().amax()).expand(draws.shape[1])


def gradient_of(estimator: ELBO, program: Program, batch: Batch) -> Tensor:
    """(P,) one gradient of the loss per datum, all parameters side by side."""
    return timed_gradient(estimator, program, batch)[0]


def timed_gradient(estimator: ELBO, program: Program, batch: Batch) -> tuple[Tensor, float]:
    """The same, and its seconds.

    What a run of the program adds to its modules' buffers (a running mean, a multiplier) is taken
    back, so that all gradients are those of one program.
    """
    with program.untouched():
        start = time.perf_counter()
        gradient = _gradient(estimator, program, batch)
        wait_for(gradient)
        return gradient, time.perf_counter() - start


def _gradient(estimator: ELBO, program: Program, batch: Batch) -> Tensor:
    parameters = list(program.parameters.values())
    for parameter in parameters:
        parameter.grad = None
    backward(estimator, program, batch)
    flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([as_dense(g).flatten() for g in flat]).detach()


def of_the_bound(program: Program, guide: Trace) -> Tensor:
    """(P,) 1 for a parameter of the bound, 0 for one of a site's baseline network.

    Pyro's ``infer={"baseline": {"nn_baseline": network}}`` is fitted by ``TraceGraph_ELBO`` to the
    site's signal, by a loss of its own that is no part of the ELBO.
    """
    options = [site["infer"].get("baseline", {}) for site in sample_sites(guide).values()]
    networks = [o["nn_baseline"] for o in options if isinstance(o.get("nn_baseline"), nn.Module)]
    fitted = {id(parameter) for network in networks for parameter in network.parameters()}
    parameters = program.parameters.values()
    return torch.cat([torch.full((p.numel(),), float(id(p) not in fitted)) for p in parameters]).to(
        program.device, program.dtype
    )


def directions(size: int, program: Program) -> Tensor:
    """(Q, P) unit vectors if there are few parameters, else Gaussian directions."""
    if size <= FEW:
        return torch.eye(size, dtype=program.dtype, device=program.device)
    draws = np.random.default_rng(0).standard_normal((DIRECTIONS, size))
    return torch.as_tensor(draws, dtype=program.dtype, device=program.device)


def placed(estimator: ELBO, program: Program) -> ELBO:
    """A copy of the estimator on the program's device."""
    own = copy.deepcopy(estimator)
    return own.to(program.device, program.dtype) if isinstance(own, nn.Module) else own


def settle(estimator: ELBO, program: Program, batch: Batch, steps: int = SETTLING_STEPS) -> ELBO:
    """Let the estimator's state adapt to the program, then fix it."""
    if not isinstance(estimator, nn.Module):
        return estimator
    own = list(estimator.parameters())
    optimizer = torch.optim.Adam(own, lr=1e-2) if own else None
    if any(True for _ in estimator.children()) or own:
        for _ in range(steps):
            estimator.zero_grad()
            gradient_of(estimator, program, batch)
            if optimizer:
                optimizer.step()
    return estimator.eval()


def count_evaluations(
    estimator: ELBO, program: Program, batch: Batch, most: float = math.inf
) -> int:
    """The number of model runs for one gradient.

    Raises:
        UserError: there are more than ``most``.
    """
    calls = 0

    def counted(**columns: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > most:
            raise UserError(f"one gradient takes more than {most} evaluations of the model")
        return program.model(**columns)

    # sets ``__wrapped__``, by which the model's signature is found
    functools.update_wrapper(counted, program.model, assigned=(), updated=())
    watched = copy.copy(program)
    watched.model = counted
    gradient_of(estimator, watched, batch)
    inner = getattr(estimator, "elbo", estimator)
    return calls * (inner.num_particles if inner.vectorize_particles else 1)


def wait_for(value: Tensor) -> None:
    """Wait until the device has computed it, for timing."""
    if value.device.type == "cuda":
        torch.cuda.synchronize(value.device)
