"""One step's gradient: estimator, backward, norm, clipping; as it stands, or captured."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from inference.data.columns import Batch
from inference.engine.capture.captured import Captured
from inference.engine.capture.graph import Outputs
from inference.engine.gradient.sparse import Fetched, sparse
from inference.engine.program.objective import backward
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from inference.util.errors import UserError

T = TypeVar("T")
BETA = "weight of the KL"  # beside the columns, whose names have no blanks


class Measured(NamedTuple):
    """What a step tells of itself.

    Attributes:
        loss: () nats per datum, of the objective.
        norm: () of the gradient, before it is clipped.
        terms: (names,) the ELBO's terms, nats per datum.
    """

    loss: Tensor
    norm: Tensor
    terms: Tensor


class Gradient:
    """Puts the gradient of the loss, per datum, into every parameter's ``.grad``.

    Args:
        program: initialised.
        terms: the watched estimator.
        clip_norm: largest norm over all of the program's parameters; None: no clipping.
        precision: the context that the estimator runs in.

    Attributes:
        parameters: the program's, and the estimator's own (a neural baseline, a temperature).
        announce: is told what takes long.
    """

    announce: Callable[[str], None] = staticmethod(lambda note: None)

    def __init__(
        self,
        program: Program,
        terms: Terms,
        clip_norm: float | None,
        precision: Callable[[], AbstractContextManager],
    ) -> None:
        self.program, self.terms = program, terms
        self.clip_norm, self.precision = clip_norm, precision
        self.own = list(program.parameters.values())
        estimator = terms.estimator
        others = dict(estimator.named_parameters()) if isinstance(estimator, nn.Module) else {}
        self.names = [*program.parameters, *others]
        self.parameters = [*self.own, *others.values()]

    def __call__(self, batch: Batch, beta: float = 1.0) -> Measured:
        """The measure of this batch, under the KL's weight β."""
        return self._measure(batch, beta)

    def _measure(self, batch: Batch, beta: float | Tensor) -> Measured:
        loss, terms = self._backward(batch, beta)
        return Measured(loss, clip(self.own, self.clip_norm), terms)

    def _backward(self, batch: Batch, beta: float | Tensor) -> tuple[Tensor, Tensor]:
        for parameter in self.parameters:
            parameter.grad = None
        with self.precision():
            loss = backward(self.terms.estimator, self.program, batch, beta)
        return loss, self.terms.take() / self.program.datum_count(batch)


def clip(parameters: Sequence[Tensor], largest: float | None) -> Tensor:
    """() the norm of all gradients together; they are scaled to ``largest`` if it exceeds that."""
    gradients = [entries(p) for p in parameters if p.grad is not None]
    # one fused kernel; nn.utils.get_total_norm costs four times as much on small programs
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if largest is not None:
        torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1))
    return norm


def entries(parameter: Tensor) -> Tensor:
    """What its gradient holds, living: all of it, or (rows, …) the rows that are not zero.

    (A row that a batch asks for twice is summed first: the norm is that of the sums.)
    """
    gradient = parameter.grad
    assert gradient is not None
    if not gradient.is_sparse:
        return gradient
    parameter.grad = gradient.coalesce()
    return parameter.grad.values()


class CapturedGradient(Gradient):
    """The same, from a compiled graph."""

    @functools.cached_property
    def captured(self) -> Captured:
        """The step as a function of columns, compiled at its first use."""
        names = ["loss", "norm", "terms", *(f"gradient of {name!r}" for name in self.names)]
        names += [f"rows of {name!r}" for name in self.names]
        tell = lambda note: self.announce(note)  # noqa: E731  (whoever listens by then)
        roots = [*(module for _, module in self.program.modules()), self.terms.estimator]
        modules = [m for root in roots if isinstance(root, nn.Module) for m in root.modules()]
        return Captured(
            self._outputs,
            names,
            self._restored,
            announce=tell,
            setting=lambda: tuple(module.training for module in modules),
        )

    def __call__(self, batch: Batch, beta: float = 1.0) -> Measured:
        """The measure of this batch, under the KL's weight β."""
        weight = {} if beta == 1 else {BETA: torch.tensor(beta, device=self.program.device)}
        loss, norm, terms, *found = self.captured(batch | weight)
        gradients, rows = halves(found)
        for parameter, gradient, at in zip(self.parameters, gradients, rows, strict=True):
            split = gradient is not None and at is not None
            parameter.grad = sparse(at, gradient, parameter) if split else gradient  # type: ignore[arg-type]
        if norm is None:
            norm = clip(self.own, self.clip_norm)
        return Measured(loss, norm, terms)  # type: ignore[arg-type]

    def _outputs(self, columns: Mapping[str, Tensor]) -> Outputs:
        """Loss, norm, terms; gradients; and at which rows, None for gradients of all of them.

        Where there are such rows the norm is None: it is known when like rows are added up.
        """
        batch = {name: column for name, column in columns.items() if name != BETA}
        with Fetched() as fetched:
            loss, terms = self._backward(batch, columns.get(BETA, 1.0))
        found = [fetched.gradient(parameter) for parameter in self.parameters]
        self._refuse_sparse(found)
        norm = None if any(found) else clip(self.own, self.clip_norm)
        pairs = zip(self.parameters, found, strict=True)
        gradients = [p.grad if rows is None else rows[1] for p, rows in pairs]
        return [loss, norm, terms, *gradients, *(rows and rows[0] for rows in found)]

    def _refuse_sparse(self, found: Sequence[object | None]) -> None:
        differentiable = hasattr(self.terms.estimator, "differentiable_loss")
        for name, parameter, rows in zip(self.names, self.parameters, found, strict=True):
            whole = parameter.grad
            if (whole is not None and (whole.is_sparse or rows)) or (rows and not differentiable):
                raise UserError(
                    f"parameter {name!r} has sparse gradients in a way that a graph cannot hold: "
                    "look its rows up by embedding(words, table, sparse=True) alone, under an "
                    "estimator with a differentiable_loss, or fit without compile"
                )

    @contextmanager
    def _restored(self) -> Iterator[Callable[[], dict[str, Tensor]]]:
        """Whatever a run changes, by name; put back at the end, and no gradient left over."""
        before = copy.deepcopy(self._state())
        try:
            yield lambda: dict(flat("state", self._state()))
        finally:
            self.program.load_state_dict(before["program"])
            if isinstance(self.terms.estimator, nn.Module):
                self.terms.estimator.load_state_dict(before["estimator"])
            for parameter in self.parameters:
                parameter.grad = None

    def _state(self) -> dict[str, Any]:
        estimator = self.terms.estimator
        own = estimator.state_dict() if isinstance(estimator, nn.Module) else {}
        return {"program": self.program.state_dict(), "estimator": own}


def halves(found: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """The first half, and the second."""
    middle = len(found) // 2
    return found[:middle], found[middle:]


def flat(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dicts, named by its path."""
    if isinstance(value, Tensor):
        yield name, value.detach().clone()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(f"{name}.{key}", item)
