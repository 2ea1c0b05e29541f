"""Recipes by name (built in) or by file (the user's), and the commands of each domain.

The modules named here are imported when they are used, not before.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import inference.recipes
from inference.cli.options import CompareOptions, PosteriorOptions
from inference.recipes.options import Training
from inference.util.errors import UserError


class Source(NamedTuple):
    """A recipe: its name in ``config.json``, its options, and the module that builds it."""

    name: str
    options: type[Training]
    module: str


class Command(NamedTuple):
    """A command: its options, and the module that runs it."""

    options: type
    module: str


def domains() -> Iterator[ModuleType]:
    """The packages under ``inference.recipes``; importing them does not import torch."""
    for room in pkgutil.iter_modules(inference.recipes.__path__, "inference.recipes."):
        if room.ispkg:
            yield importlib.import_module(room.name)


def recipes() -> dict[str, Source]:
    """The built-in recipes by name."""
    found = {
        name: Source(name, options, f"{room.__name__}.{name}")
        for room in domains()
        for name, options in room.RECIPES.items()
    }
    return dict(sorted(found.items()))


def commands() -> dict[str, Command]:
    """The commands that the domains declare, by name."""
    found = {
        "compare": Command(CompareOptions, "inference.cli.runs.compare"),
        "posterior": Command(PosteriorOptions, "inference.cli.runs.posterior"),
    }
    for room in domains():
        for name, options in getattr(room, "COMMANDS", {}).items():
            found[name] = Command(options, f"{room.__name__}.{name}")
    return found


def summary(options: type) -> str:
    """The first line of an options class's docstring."""
    return (options.__doc__ or "").strip().split("\n")[0]


def find(name: str) -> Source:
    """The recipe of this name (with dashes, too: ``nce-lm`` is ``nce_lm``), or in this file.

    Raises:
        UserError: there is no such recipe, or the file cannot be parsed or lacks a part of a
            recipe.
    """
    ours = recipes()
    if (known := name.replace("-", "_")) in ours:
        return ours[known]
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(
            f"no recipe {name!r}: give one of {', '.join(ours)}, or a Python file of yours"
        )
    module = executed(path)
    for needed in ("Options", "build"):
        if not hasattr(module, needed):
            raise UserError(f"{path} defines no {needed!r}; copy inference/recipes/images/vae.py")
    if not (isinstance(module.Options, type) and issubclass(module.Options, Training)):
        raise UserError(f"{path}: let Options be a dataclass that inherits Training")
    return Source(name, module.Options, module.__name__)


def executed(path: Path) -> ModuleType:
    """Run the file as a module of a unique name, so that a file torch.py cannot shadow torch.

    Raises:
        UserError: the file has a syntax error.
    """
    name = f"recipe file {path}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look up the module of a class
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{error.filename}, line {error.lineno}: {error.msg}") from None
    return module
