"""The gradient from a compiled graph of estimator, backward and clipping."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from inference.data.columns import Batch
from inference.engine.capture.captured import Captured
from inference.engine.capture.graph import Outputs
from inference.engine.gradient.plain import PlainGradient
from inference.engine.gradient.protocol import StepResult
from inference.engine.program.state import averages_in_place
from inference.engine.sparse_rows import SparseLookups, as_sparse
from inference.util.errors import UserError


class StepOutputs(NamedTuple):
    """The outputs of a captured step; a graph's outputs are their flattened list.

    Attributes:
        loss, terms: as in ``StepResult``.
        norm: likewise; None where a gradient is sparse: it is computed after rows are coalesced.
        gradients: of each parameter; None where it is not used.
        row_numbers: (n,) of a gradient (n, …); None where it is that of all rows.
    """

    loss: Tensor
    norm: Tensor | None
    terms: Tensor
    gradients: Sequence[Tensor | None]
    row_numbers: Sequence[Tensor | None]

    def flatten(self) -> Outputs:
        """The fields as one list."""
        return [self.loss, self.norm, self.terms, *self.gradients, *self.row_numbers]

    @classmethod
    def unflatten(cls, outputs: Outputs) -> StepOutputs:
        """Inverse of ``flatten``."""
        loss, norm, terms, *rest = outputs
        assert loss is not None
        assert terms is not None
        return cls(loss, norm, terms, rest[: len(rest) // 2], rest[len(rest) // 2 :])

    @staticmethod
    def names(parameters: Sequence[str]) -> list[str]:
        """Names of the flat outputs, for error messages."""
        gradients = [f"gradient of {name!r}" for name in parameters]
        return ["loss", "norm", "terms", *gradients, *(f"rows of {name!r}" for name in parameters)]


class CapturedGradient(PlainGradient):
    """``PlainGradient`` by a graph that is compiled for each shape of a batch."""

    @functools.cached_property
    def parameters(self) -> list[Tensor]:
        """The parameters of the first batch, the only ones in the graph."""
        self.program.fixed_by = "compile"
        return list(self.named.values())

    @functools.cached_property
    def captured(self) -> Captured:
        """The step as a function of columns and, where it is not 1, the KL's weight."""
        assert self.parameters
        roots = [*(module for _, module in self.program.modules()), self.terms.estimator]
        modules = [m for root in roots if isinstance(root, nn.Module) for m in root.modules()]
        return Captured(
            self._outputs,
            StepOutputs.names(list(self.named)),
            self._restored,
            announce=lambda note: self.announce(note),  # looks ``announce`` up when called
            setting=lambda: tuple(module.training for module in modules),
            parameters=lambda: self.parameters,
        )

    def __call__(self, batch: Batch, beta: float = 1.0) -> StepResult:
        """One run of the graph."""
        found = StepOutputs.unflatten(self.captured(batch, *weight(beta, self.program.device)))
        triples = zip(self.parameters, found.gradients, found.row_numbers, strict=True)
        for parameter, gradient, at in triples:
            if gradient is not None and at is not None:
                gradient = as_sparse(at, gradient, parameter)
            parameter.grad = gradient
        norm = self.clip() if found.norm is None else found.norm
        return StepResult(found.loss, norm, found.terms)

    def _outputs(self, batch: Batch, *beta: Tensor) -> Outputs:
        with averages_in_place(), SparseLookups() as lookups:
            loss, terms = self.backward(batch, *beta or (1.0,))
        found = [lookups.gradient(parameter) for parameter in self.parameters]
        self._refuse_sparse(found)
        norm = None if any(found) else self.clip()
        pairs = list(zip(self.parameters, found, strict=True))
        gradients = [p.grad if rows is None else rows[1] for p, rows in pairs]
        numbers = [None if rows is None else rows[0] for rows in found]
        return StepOutputs(loss, norm, terms, gradients, numbers).flatten()

    def _refuse_sparse(self, found: Sequence[object | None]) -> None:
        differentiable = hasattr(self.terms.estimator, "differentiable_loss")
        for name, parameter, rows in zip(self.named, self.parameters, found, strict=True):
            whole = parameter.grad
            if (whole is not None and (whole.is_sparse or rows)) or (rows and not differentiable):
                raise UserError(
                    f"parameter {name!r} has sparse gradients in a way that a graph cannot hold: "
                    "look its rows up by embedding(words, table, sparse=True) alone, under an "
                    "estimator with a differentiable_loss, or fit without compile"
                )

    @contextmanager
    def _restored(self) -> Iterator[Callable[[], dict[str, Tensor]]]:
        """Yields the state that a run changes, by name; on exit restores it and clears
        gradients."""
        before = copy.deepcopy(self._state())
        try:
            yield lambda: dict(named_tensors("state", self._state()))
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


def weight(beta: float, device: torch.device) -> tuple[Tensor, ...]:
    """(β,) as the graph's argument; () for β = 1, where the KL is not scaled."""
    return () if beta == 1 else (torch.tensor(beta, device=device),)


def named_tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Copies of every tensor in nested dicts, named by its path."""
    if isinstance(value, Tensor):
        yield name, value.detach().clone()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from named_tensors(f"{name}.{key}", item)
