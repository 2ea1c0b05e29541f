"""Estimators by the names that the shell knows them by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from pyro import infer
from pyro.infer import ELBO
from torch import Tensor, nn

from inference import estimators
from inference.estimators import MovingAverage, NeuralBaseline, ScoreFunction
from inference.recipes.contract import EstimatorName
from inference.util.errors import UserError
from ppl_models.networks import mlp


def named_estimator(name: str, particles: int, nesting: float = 1) -> ELBO:
    """Pyro's or our estimator of this name, its particles vectorised, for so many nested plates."""
    if name not in (known := get_args(EstimatorName)):
        raise UserError(f"no estimator {name!r}: give one of {', '.join(known)}")
    home = estimators if hasattr(estimators, name) else infer
    vectorize = particles > 1
    return getattr(home, name)(
        num_particles=particles, vectorize_particles=vectorize, max_plate_nesting=nesting
    )


def baselined(options: Any, features: int, inputs: Callable[..., Tensor]) -> ELBO:
    """The named estimator; of ``ScoreFunction``, with what ``options.baseline`` says.

    Args:
        options: with ``estimator``, ``particles`` and ``baseline``: none, average, or neural (a
            network of 100 units, with NVIL's normalisation).
        features: length of what the network reads of a datum.
        inputs: picks that from the columns.
    """
    if options.estimator != "ScoreFunction" or options.baseline == "none":
        return named_estimator(options.estimator, options.particles)
    if options.baseline == "average":
        return ScoreFunction(options.particles, baseline=MovingAverage())
    guess = NeuralBaseline(mlp([features, 100, 1], nn.Tanh), inputs)
    return ScoreFunction(options.particles, baseline=guess, normalise=True)
