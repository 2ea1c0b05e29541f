"""One step's objective: an estimator's loss per datum, backward, under the KL weight β."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from inference.data.columns import Batch
from inference.engine.program.nonfinite import explained
from inference.engine.program.program import Program
from inference.estimators.programs import guide_is_prior
from inference.util.sites import is_factor


class WeightedKL(Messenger):
    """Scales every latent site by β, so that the ELBO reads E log p(x | z) − β KL.

    Wrapped around model and guide alike; the source is Higgins et al. 2017 (β-VAE).

    Args:
        beta: β.
        factors: whether a ``pyro.factor`` belongs to the KL: a guide's does, as part of log q.
    """

    def __init__(self, beta: float | Tensor, *, factors: bool = False) -> None:
        super().__init__()
        self.beta, self.factors = beta, factors

    def _pyro_sample(self, msg: Message) -> None:
        if not msg["is_observed"] or (self.factors and is_factor(msg)):
            msg["scale"] = msg["scale"] * self.beta


def with_weighted_kl(program: Program, beta: float | Tensor) -> tuple[Callable, Callable]:
    """Model and guide with the KL weighted by β; unchanged for β = 1, and where the KL is 0."""
    unweighted = not isinstance(beta, Tensor) and beta == 1
    if unweighted or guide_is_prior(program.guide, program.model):
        return program.model, program.guide
    return WeightedKL(beta)(program.model), WeightedKL(beta, factors=True)(program.guide)


def backward(estimator: ELBO, program: Program, batch: Batch, beta: float | Tensor = 1.0) -> Tensor:
    """Add the gradient of the loss, per datum, to the parameters; return the loss, detached.

    Pyro's estimators without a ``differentiable_loss`` (``TraceGraph_ELBO`` and the multi-sample
    bounds) give their gradient through ``loss_and_grads`` and are scaled afterwards, so their
    gradients must be zero before.
    """
    program.caches.forget()
    model, guide = with_weighted_kl(program, beta)
    count = program.datum_count(batch)
    differentiable = hasattr(estimator, "differentiable_loss")
    follow: Any = estimator.differentiable_loss if differentiable else estimator.loss_and_grads  # type: ignore[attr-defined]
    with explained(program, batch):
        loss = follow(model, guide, **batch)
    program.refresh()
    if differentiable:
        loss = loss / count
        if loss.requires_grad:
            loss.backward()
        return loss.detach()
    gradients = [p.grad for p in program.parameters.values() if p.grad is not None]
    if gradients:  # in a graph all may be sparse, which is refused later
        torch._foreach_div_(gradients, float(count))
    device = gradients[0].device if gradients else None
    return torch.as_tensor(loss, dtype=torch.get_default_dtype(), device=device) / count


def bound(estimator: ELBO, program: Program, batch: Batch) -> float:
    """The estimated bound, nats per datum; no gradient, no state changed."""
    program.caches.forget()
    with torch.no_grad(), program.untouched(), explained(program, batch):
        loss = estimator.loss(program.model, program.guide, **batch)  # type: ignore[attr-defined]
    program.refresh()
    return -float(loss) / program.datum_count(batch)
