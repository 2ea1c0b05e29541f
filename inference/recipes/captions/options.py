"""The flags of the captioner, and of captioning with a trained one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from inference.recipes.options import (
    EstimatorName,
    MayChange,
    NonNegativeFloat,
    PositiveInt,
    Share,
    WithBaseline,
)


@dataclass(frozen=True)
class CaptionerOptions(WithBaseline):
    """Show, attend and tell: captions said word by word, a look at the picture for every word."""

    data: str = "scenes"
    """scenes, scenes-clothing, flickr8k, hub:NAME, or a folder or file of captioned pictures."""
    attention: Literal["soft", "hard"] = "soft"
    """Look everywhere in proportion, or at one place, which is a latent."""
    guide: Literal["prior", "caption"] = "prior"
    """Of hard attention: the model's own looks (the paper's bound), or some that know the words."""
    encoder: str | None = None
    """Frozen network whose grid is looked at [pixels for scenes, else efficientnet-lite2]."""
    features: MayChange[Path] = Path("features")
    """Folder where the encoder's grids are kept."""
    start: Path | None = None
    """Directory of a finished captioner whose networks to begin with [new ones]."""
    hidden: PositiveInt = 512
    """Width of the decoder's state and of its words."""
    dropout: Share = 0.5
    """In training."""
    minimum: PositiveInt = 5
    """How often a word must occur in the training captions to be said."""
    penalty: NonNegativeFloat = 1.0
    """Weight of soft attention's (1 − Σ_t α_ti)²."""
    entropy: NonNegativeFloat = 0.002
    """Weight of the bonus for undecided looks, of hard attention in training."""
    expected: Share = 0.5
    """Share of captions whose looks are replaced by their expectation, likewise."""
    estimator: EstimatorName = "ScoreFunction"
    """Gradient estimator."""
    batch_size: PositiveInt | None = 64
    """Captions a step, of like length."""
    learning_rate: NonNegativeFloat = 4e-4
    """Of Adam, at its largest."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    beam: MayChange[PositiveInt] = 5
    """Captions kept at a time while the best is looked for."""
    length_penalty: MayChange[NonNegativeFloat] = 0.3
    """α of what is searched for: the largest log p(y | a) / length^α."""


@dataclass(frozen=True)
class CaptionOptions:
    """Caption pictures with a trained captioner, and draw where it looked.

    lowerbound caption runs/captioner photo.jpg other.png
    """

    run: Positional[Path]
    """Directory of a finished fit of the recipe captioner."""
    images: Positional[tuple[Path, ...]]
    """Pictures (jpg, png, …)."""
    beam: PositiveInt = 5
    """Captions kept at a time while the best is looked for."""
    length_penalty: NonNegativeFloat = 0.3
    """α of what is searched for: the largest log p(y | a) / length^α."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    encoder: str | None = None
    """The run's encoder, said again where it is MODULE:FACTORY: code, which runs only if asked."""
