"""Copies of a program, one for each further seed, with parameters of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn

from inference.engine.program.program import Program
from inference.util.errors import UserError


def copies(model: Callable[..., Any], guide: Callable[..., Any], count: int) -> list[Program]:
    """``count`` programs: model and guide themselves, then deep copies."""
    return [Program(model, guide), *(_copy(model, guide) for _ in range(count - 1))]


class Sent:
    """Model and guide on their way to another process, where ``unpacked`` gives them."""

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any]) -> None:
        self.pair = model, guide
        self.models = [part._model for part in _autoguides(guide)]

    def unpacked(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """(model, guide); autoguides, which drop their model on the way, have it again."""
        for part, its_model in zip(_autoguides(self.pair[1]), self.models, strict=True):
            part._model = its_model
        return self.pair


def reset_modules(program: Program, first: Program | None = None) -> None:
    """Draw new initial weights in every module with a ``reset_parameters``.

    With ``first`` (initialised) given, only modules that it trains are reset: a frozen pretrained
    encoder keeps its weights.
    """
    trained = None if first is None else set(_trained(first))
    for root, module in program.modules():
        for name, part in module.named_modules():
            known = trained is None or f"{root}.{name}" in trained
            if known and callable(reset := getattr(part, "reset_parameters", None)):
                reset()


def refuse_shared(program: Program, earlier: Sequence[Program]) -> None:
    """Raise a ``UserError`` if two seeds share a parameter or buffer."""
    taken = {id(t) for other in earlier for _, t in _tensors(other)}
    for name, tensor in _tensors(program):
        if id(tensor) in taken:
            raise UserError(
                f"{name!r} belongs to a module that the model or guide function closes over, so a "
                "second seed cannot have its own: write them as PyroModules, or fit one seed at a "
                "time"
            )


def _tensors(program: Program) -> Iterator[tuple[str, Tensor]]:
    yield from program.parameters.items()
    yield from program.buffers()


def _copy(model: Callable[..., Any], guide: Callable[..., Any]) -> Program:
    """A deep copy; autoguides drop their model when copied, so it is set again."""
    originals = _autoguides(guide)
    kept = [(part._model, part.master) for part in originals]
    models = [part._model for part in originals]
    new_model, new_guide, new_models = copy.deepcopy((model, guide, models))
    for part, (its_model, master) in zip(originals, kept, strict=True):
        part._model, part.master = its_model, master
    for part, its_model in zip(_autoguides(new_guide), new_models, strict=True):
        part._model = its_model
    return Program(new_model, new_guide)


def _autoguides(guide: Callable[..., Any]) -> list[Any]:
    modules = guide.modules() if isinstance(guide, nn.Module) else ()
    return [module for module in modules if isinstance(module, AutoGuide)]


def _trained(program: Program) -> Iterator[str]:
    """Names of the modules that hold a parameter of the program."""
    own = set(map(id, program.parameters.values()))
    for root, module in program.modules():
        for name, part in module.named_modules():
            if any(id(p) in own for p in part.parameters()):
                yield f"{root}.{name}"
