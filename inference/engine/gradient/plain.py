"""The gradient without capture: estimator, backward, norm, clipping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from inference.data.columns import Batch
from inference.engine.gradient.protocol import Announce, StepResult, silent
from inference.engine.program.objective import backward
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from inference.engine.sparse_rows import stored_values


class PlainGradient:
    """Estimator and backward, run eagerly by torch.

    Args:
        program: initialised.
        terms: the estimator, wrapped to record the ELBO's terms.
        clip_norm: largest norm over all of the program's parameters; None: no clipping.
        precision: the context that the estimator runs in.

    Attributes:
        named: the tensors that an optimiser updates.
    """

    def __init__(
        self,
        program: Program,
        terms: Terms,
        clip_norm: float | None,
        precision: Callable[[], AbstractContextManager],
    ) -> None:
        self.program, self.terms = program, terms
        self.clip_norm, self.precision = clip_norm, precision
        self.announce: Announce = silent
        estimator = terms.estimator
        self.others = dict(estimator.named_parameters()) if isinstance(estimator, nn.Module) else {}

    @property
    def named(self) -> dict[str, Tensor]:
        """The program's parameters found so far, and the estimator's own."""
        return self.program.parameters | self.others

    def __call__(self, batch: Batch, beta: float = 1.0) -> StepResult:
        """Backward, norm, clipping."""
        loss, terms = self.backward(batch, beta)
        return StepResult(loss, self.clip(), terms)

    def clip(self) -> Tensor:
        """Clip the program's gradients; () their norm before."""
        return clip_gradients(list(self.program.parameters.values()), self.clip_norm)

    def backward(self, batch: Batch, beta: float | Tensor) -> tuple[Tensor, Tensor]:
        """Fill every ``.grad``, unclipped; (loss (), terms (names,)), nats per datum."""
        for parameter in self.named.values():
            parameter.grad = None
        with self.precision():
            loss = backward(self.terms.estimator, self.program, batch, beta)
        return loss, self.terms.take() / self.program.datum_count(batch)


def clip_gradients(parameters: Sequence[Tensor], largest: float | None) -> Tensor:
    """Scale gradients to a joint norm of at most ``largest``; () the norm before."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()  # the norm is of coalesced rows
    gradients = [stored_values(p.grad) for p in parameters if p.grad is not None]
    # one fused kernel; nn.utils.get_total_norm costs four times as much on small programs
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if largest is not None:
        torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1))
    return norm
