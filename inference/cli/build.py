"""A recipe's program, with its data."""

from __future__ import annotations

import importlib

import pyro

from inference.cli.registry import Source
from inference.recipes.contract import Recipe
from inference.recipes.options import Training
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
