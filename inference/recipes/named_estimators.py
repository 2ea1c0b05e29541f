"""Estimators by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from pyro import infer
from pyro.infer import ELBO
from torch import Tensor, nn

import inference.estimators as estimators
from inference.estimators import MovingAverage, NeuralBaseline, ScoreFunction
from inference.recipes.options import EstimatorName, WithBaseline
from inference.util.errors import UserError
from ppl_models.networks import mlp


def named_estimator(name: str, particles: int, nesting: float = 1) -> ELBO:
    """Pyro's or our estimator of this name, with vectorised particles and this plate nesting."""
    if name not in (known := get_args(EstimatorName)):
        raise UserError(f"no estimator {name!r}: give one of {', '.join(known)}")
    if particles < 1:
        raise UserError(f"estimator {name} of {particles} particles: give at least 1")
    home = estimators if hasattr(estimators, name) else infer
    return getattr(home, name)(
        num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=nesting
    )


def with_baseline(options: WithBaseline, features: int, inputs: Callable[..., Tensor]) -> ELBO:
    """The named estimator; ``ScoreFunction`` with the baseline of ``options``.

    Args:
        options: estimator and baseline; a neural baseline has 100 units, and NVIL's normalisation.
        features: length of the network's input for a datum.
        inputs: columns → the network's input.
    """
    if options.estimator != "ScoreFunction" or options.baseline == "none":
        return named_estimator(options.estimator, options.particles)
    if options.baseline == "average":
        return ScoreFunction(options.particles, baseline=MovingAverage())
    network = NeuralBaseline(mlp([features, 100, 1], nn.Tanh), inputs)
    return ScoreFunction(options.particles, baseline=network, normalise=True)
