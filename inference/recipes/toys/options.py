"""The flags of the recipes of toys."""

from __future__ import annotations

from dataclasses import dataclass

from inference.recipes.options import (
    EstimatorName,
    FiniteFloat,
    NonNegativeFloat,
    PositiveInt,
    Training,
)


@dataclass(frozen=True)
class ToyOptions(Training):
    """Training of a toy, whose data are one batch of independent draws."""

    batch_size: PositiveInt | None = None
    """Draws a step; None for all."""
    learning_rate: NonNegativeFloat = 0.02
    """Learning rate of Adam."""


@dataclass(frozen=True)
class ExpectedSquareOptions(ToyOptions):
    """The toy E[z²] with μ = aθ + b; plots both gradients at the initial θ."""

    theta: FiniteFloat = 0.4
    """Initial θ; the optimum is −b/a."""
    a: FiniteFloat = 2.0
    """Slope of μ."""
    b: FiniteFloat = 3.0
    """Offset of μ."""
    estimator: EstimatorName = "Pathwise"
    """Gradient estimator; ScoreFunction treats the draw as not reparameterised."""
    epochs: PositiveInt = 200
    """Steps, each with all draws."""


@dataclass(frozen=True)
class SquaredDistanceOptions(ToyOptions):
    """The toy E[(b − t)²] of REBAR and RELAX; plots five estimators over training."""

    target: FiniteFloat = 0.45
    """t: 0.45 in REBAR's paper, 0.499 in RELAX's, where the two costs are almost the same."""
    estimator: EstimatorName = "REBAR"
    """Gradient estimator of the fit; the plot compares five."""
    epochs: PositiveInt = 500
    """Steps, each with one draw."""
