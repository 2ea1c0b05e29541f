"""Recipes by name (ours) or by file (anybody's), and commands, as the rooms declare them.

Nothing of ours that is named here is imported before it is used.
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
from inference.cli.options import CompareOptions
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


def rooms() -> Iterator[ModuleType]:
    """The packages of the domains; importing them imports nothing heavy."""
    for room in pkgutil.iter_modules(inference.recipes.__path__, "inference.recipes."):
        if room.ispkg:
            yield importlib.import_module(room.name)


def recipes() -> dict[str, Source]:
    """Those that come with lowerbound, by name."""
    found = {
        name: Source(name, options, f"{room.__name__}.{name}")
        for room in rooms()
        for name, options in room.RECIPES.items()
    }
    return dict(sorted(found.items()))


def commands() -> dict[str, Command]:
    """Those that are not about a recipe, by name."""
    found = {"compare": Command(CompareOptions, "inference.cli.compare")}
    for room in rooms():
        for name, options in getattr(room, "COMMANDS", {}).items():
            found[name] = Command(options, f"{room.__name__}.{name}")
    return found


def summary(options: type) -> str:
    """What a recipe or a command is, in a line."""
    return (options.__doc__ or "").strip().split("\n")[0]


def find(name: str) -> Source:
    """The recipe of this name (with dashes, too: ``nce-lm`` is ``nce_lm``), or in this file.

    Raises:
        UserError: no such recipe, a file that cannot be parsed or is no recipe.
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
    """The file as a module, under a name of its own: a file torch.py stands in nobody's place.

    Raises:
        UserError: its syntax is wrong.
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
