"""Gradients of an estimator one by one: their moments, what they cost, its state at rest."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from inference.data.columns import Batch
from inference.engine.program.objective import backward
from inference.engine.program.program import Program
from inference.engine.sparse_rows import as_dense
from inference.workflow.bias import Sample

FEW, DIRECTIONS = 32, 32
ROUNDING = 64  # units in the last place, of the largest number
SETTLING_STEPS = 100  # in which baselines and temperatures find their place, at fixed parameters


@dataclass
class Moments:
    """Running mean and variance of gradients, (P,) each, their shadows, and what they cost.

    Attributes:
        directions: (Q, P) in which a bias is tested.
        shadows: of each gradient, (Q,) its length in each direction.
        rare: the same of gradients with a rare draw, which are in no mean.
        seconds: of each gradient.
    """

    directions: Tensor
    shadows: list[Tensor] = field(default_factory=list)
    rare: list[Tensor] = field(default_factory=list)
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

    def add_rare(self, gradient: Tensor) -> None:
        """One that a rare draw made."""
        self.rare.append(self.directions @ gradient)

    def sample(self) -> Sample:
        """The gradients in each direction."""
        draws = torch.stack(self.shadows).double()
        every = torch.cat([draws, *(r.double()[None] for r in self.rare)]).nan_to_num(0.0)
        deviation = (every - draws.mean(0)).abs().amax(0)
        return Sample(draws, deviation, rounding(draws, self.directions.dtype))

    @property
    def variance(self) -> Tensor:
        """(P,) of one gradient."""
        return torch.as_tensor(self.squares) / max(1, self.count - 1)

    @property
    def error(self) -> Tensor:
        """(P,) standard error of the mean."""
        return (self.variance / self.count).sqrt()


def rounding(draws: Tensor, dtype: torch.dtype) -> Tensor:
    """(Q,) how far numbers of this size may be from what they stand for."""
    return (ROUNDING * torch.finfo(dtype).eps * draws.abs().amax()).expand(draws.shape[1])


def gradient_of(estimator: ELBO, program: Program, batch: Batch) -> Tensor:
    """(P,) one gradient of the loss per datum, all parameters side by side."""
    parameters = list(program.parameters.values())
    for parameter in parameters:
        parameter.grad = None
    backward(estimator, program, batch)
    flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([as_dense(g).flatten() for g in flat]).detach()


def directions(size: int, program: Program) -> Tensor:
    """(Q, P) each parameter by itself if they are few, else Gaussian directions over all."""
    if size <= FEW:
        return torch.eye(size, dtype=program.dtype, device=program.device)
    draws = np.random.default_rng(0).standard_normal((DIRECTIONS, size))
    return torch.as_tensor(draws, dtype=program.dtype, device=program.device)


def placed(estimator: ELBO, program: Program) -> ELBO:
    """A copy where the program is."""
    own = copy.deepcopy(estimator)
    return own.to(program.device, program.dtype) if isinstance(own, nn.Module) else own


def settle(estimator: ELBO, program: Program, batch: Batch) -> ELBO:
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


def count_evaluations(estimator: ELBO, program: Program, batch: Batch) -> int:
    """Runs of the model for one gradient."""
    calls = 0

    def counted(**columns: Any) -> Any:
        nonlocal calls
        calls += 1
        return program.model(**columns)

    functools.update_wrapper(counted, program.model, assigned=(), updated=())  # tells what it is of
    watched = copy.copy(program)
    watched.model = counted
    gradient_of(estimator, watched, batch)
    inner = getattr(estimator, "elbo", estimator)
    return calls * (inner.num_particles if inner.vectorize_particles else 1)


def wait_for(value: Tensor) -> None:
    """Until the device has computed it, so that a clock can be read."""
    if value.device.type == "cuda":
        torch.cuda.synchronize(value.device)
