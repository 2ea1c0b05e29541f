"""The flags of glimpses, and of looking at pictures with a trained one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from inference.recipes.options import (
    EstimatorName,
    ImageRange,
    MayChange,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    WithBaseline,
)


@dataclass(frozen=True)
class GlimpsesOptions(WithBaseline):
    """Recurrent attention: what an image shows, said after a few looks at parts of it."""

    data: str = "digits"
    """translated, cluttered, cluttered-100, pairs, addition, sequences (made of MNIST),
    svhn:FOLDER, or a source of labelled images."""
    range: ImageRange = None
    """Values of black and white in the data's images [found, and said]."""
    network: Literal["ram", "dram"] = "ram"
    """One recurrent layer (Mnih et al. 2014), or two LSTMs and convolutions (Ba et al. 2014)."""
    context: bool = True
    """Begin DRAM's upper layer with the whole image, coarsely."""
    places: Literal["anywhere", "smooth", "grid", "random"] = "anywhere"
    """Gaussian over a sharp retina, Gaussian over a bilinear one (pathwise), cells of a grid, or
    uniform at random."""
    looks: PositiveInt = 6
    """At each target."""
    glimpse: PositiveInt = 8
    """Side of the smallest square seen, pixels."""
    scales: PositiveInt = 1
    """Squares seen at a time, each twice as large as the one before, at the same resolution."""
    sigma: PositiveFloat = 0.1
    """Standard deviation of a Gaussian place, half images."""
    sigma_at_first: PositiveFloat | None = None
    """Begin with one this large and learn it, down to --sigma [--sigma throughout]."""
    grid: PositiveInt = 5
    """Cells on a side of the grid."""
    every: bool = False
    """Say the label after each look, not only after the last."""
    guide: Literal["prior", "label"] = "prior"
    """The model's own looks (the papers' bound), or some that know the label."""
    reward: NonNegativeFloat = 0.0
    """Weight of the papers' 0/1 reward in place of the bound's credit to looks (0: the bound)."""
    width: PositiveInt = 256
    """Of the state."""
    estimator: EstimatorName = "LeaveOneOut"
    """Gradient estimator."""
    particles: PositiveInt = 4
    """Draws from the guide a step."""
    learning_rate: NonNegativeFloat = 1e-3
    """Of Adam, at its largest."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    test_samples: MayChange[PositiveInt] = 10
    """K: draws whose predictions are averaged, and of the bound L_K, on the test data."""


@dataclass(frozen=True)
class LookOptions:
    """Say what pictures show with trained glimpses, and draw where it looked.

    lowerbound look runs/glimpses photo.png other.png
    """

    run: Positional[Path]
    """Directory of a finished fit of the recipe glimpses."""
    images: Positional[tuple[Path, ...]]
    """Pictures (png, jpg, …), of the size that the run was trained on."""
    draws: PositiveInt = 10
    """Runs over each picture whose predictions are averaged."""
