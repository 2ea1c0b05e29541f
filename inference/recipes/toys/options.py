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
    """Draws a step; None for those of the one batch."""
    learning_rate: NonNegativeFloat = 0.02
    """Of Adam."""


@dataclass(frozen=True)
class ExpectedSquareOptions(ToyOptions):
    """The toy E[z²] with μ = aθ + b; a picture of both ways' gradients at the start."""

    theta: FiniteFloat = 0.4
    """θ at the start; its optimum is −b/a."""
    a: FiniteFloat = 2.0
    """Slope of μ."""
    b: FiniteFloat = 3.0
    """Offset of μ."""
    estimator: EstimatorName = "Pathwise"
    """ScoreFunction takes the draw as not reparameterised."""
    epochs: PositiveInt = 200
    """Steps: each sees all draws."""


@dataclass(frozen=True)
class SquaredDistanceOptions(ToyOptions):
    """The toy E[(b − t)²] of REBAR and RELAX; a picture of five estimators along training."""

    target: FiniteFloat = 0.45
    """t: 0.45 in REBAR's paper, 0.499 in RELAX's, where the two costs are almost the same."""
    estimator: EstimatorName = "REBAR"
    """Of the fit itself; the picture has five."""
    epochs: PositiveInt = 500
    """Steps: each sees one draw."""
