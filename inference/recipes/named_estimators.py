"""Estimators by their names on the command line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import get_args

from pyro import infer
from pyro.infer import ELBO
from torch import Tensor, nn

import inference.estimators as estimators
from inference.estimators import MovingAverage, NeuralBaseline, ScoreFunction
from inference.recipes.contract import Recipe
from inference.recipes.options import AUTO, EstimatorName, WithBaseline
from inference.util.errors import UserError
from ppl_models.networks import mlp


def named_estimator(name: str, particles: int, nesting: float = 1) -> ELBO:
    """Pyro's or our estimator of this name, with vectorised particles and this plate nesting."""
    if name not in (known := get_args(EstimatorName)):
        raise UserError(f"no estimator {name!r}: give one of {', '.join(known)}")
    if name == AUTO:
        raise UserError(
            "estimator auto is chosen by fit alone, for a recipe without its own: name one"
        )
    if particles < 1:
        raise UserError(f"estimator {name} of {particles} particles: give at least 1")
    home = estimators if hasattr(estimators, name) else infer
    return getattr(home, name)(
        num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=nesting
    )


def estimator_of(recipe: Recipe, name: str, particles: int, nesting: float = 1) -> ELBO:
    """The named estimator; ``ScoreFunction`` with a copy of the recipe's baseline, if any."""
    if name != "ScoreFunction" or recipe.baseline is None:
        return named_estimator(name, particles, nesting)
    baseline = copy.deepcopy(recipe.baseline)
    is_network = isinstance(baseline, NeuralBaseline)
    return ScoreFunction(particles, baseline=baseline, normalise=is_network)


def named_baseline(
    options: WithBaseline, features: int, inputs: Callable[..., Tensor]
) -> nn.Module | None:
    """The baseline of ``options``; a neural one has 100 units, and NVIL's normalisation.

    Args:
        options: with ``--baseline``.
        features: length of the network's input for a datum.
        inputs: columns → the network's input.
    """
    if options.baseline == "average":
        return MovingAverage()
    if options.baseline == "neural":
        return NeuralBaseline(mlp([features, 100, 1], nn.Tanh), inputs)
    return None
