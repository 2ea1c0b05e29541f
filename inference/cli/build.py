"""A recipe's program, with its data."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyro

from inference.cli import registry
from inference.cli.registry import Source
from inference.recipes.contract import Recipe
from inference.recipes.options import Training, options_from
from inference.util import rng
from inference.util.errors import UserError


def build_recipe(source: Source, options: Training) -> Recipe:
    """What the recipe's ``build`` returns for these options, its first weights drawn from seed 0.

    Raises:
        UserError: ``build`` does not return a ``Recipe``.
    """
    with rng.forked():
        pyro.set_rng_seed(0)
        recipe = importlib.import_module(source.module).build(options)
    if not isinstance(recipe, Recipe):
        raise UserError(
            f"build(options) of {source.name} returns {type(recipe).__name__}: "
            "let it return a Recipe (inference.recipes.contract)"
        )
    return recipe


def rebuilt(directory: Path, config: Mapping[str, Any], file: str | None = None) -> Recipe:
    """The recipe of a run, with its data, from the run's ``config.json``.

    Args:
        directory: of the run.
        config: what it holds.
        file: the recipe's file, if it is none of ours: what a directory names is not executed.

    Raises:
        UserError: the run is of no recipe, or its recipe is a file that is not given.
    """
    saved = config.get("recipe")
    if not isinstance(saved, Mapping) or not isinstance(name := saved.get("name"), str):
        raise UserError(
            f"the fit in {directory} is of a program of yours: give it, Run.load(directory, model, "
            "guide)"
        )
    if file is None and name not in registry.recipes():
        raise UserError(
            f"the fit in {directory} is of the recipe file {name!r}, which is not run unasked: "
            "name it, --recipe FILE.py (in Python Run.load(directory, recipe=...))"
        )
    source = registry.find(file or name)
    return build_recipe(source, options_from(source.options, saved, directory))
