"""The flags of the captioner, and of captioning with a trained one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from inference.recipes.options import (
    NAMES_CODE,
    EstimatorName,
    MayChange,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Rule,
    Share,
    Training,
    WithBaseline,
)

Beam = Annotated[PositiveInt, Rule(lambda n: n <= 1000, "at most 1000")]


@dataclass(frozen=True)
class CaptionerOptions(WithBaseline):
    """Show, attend and tell: captions word by word, with attention to the picture at each word."""

    data: str = "scenes"
    """scenes, scenes-clothing, flickr8k, hub:NAME, or a folder or file of captioned pictures."""
    attention: Literal["soft", "hard"] = "soft"
    """Soft: a weighted mean over all locations; hard: one location, a latent."""
    guide: Literal["prior", "caption"] = "prior"
    """For hard attention: the model's prior (the paper's bound), or a guide that reads the
    caption."""
    encoder: Annotated[str | None, NAMES_CODE] = None
    """Frozen encoder of pictures [pixels for scenes, else efficientnet-lite2]."""
    features: MayChange[Path] = Path("features")
    """Folder for the encoder's extracted features."""
    start: Path | None = None
    """Directory of a finished captioner whose networks to start from [new ones]."""
    hidden: PositiveInt = 512
    """Width of the decoder's state and of its words."""
    dropout: Share = 0.5
    """Dropout rate in training."""
    minimum: PositiveInt = 5
    """How often a word must occur in the training captions to be in the vocabulary."""
    penalty: NonNegativeFloat = 1.0
    """Weight of soft attention's (1 − Σ_t α_ti)²."""
    entropy: NonNegativeFloat = 0.002
    """Weight of the entropy bonus of hard attention, in training."""
    expected: Share = 0.5
    """Share of captions whose hard attention is replaced by its expectation, in training."""
    estimator: EstimatorName = "ScoreFunction"
    """Gradient estimator."""
    batch_size: PositiveInt | None = 64
    """Captions a step, of similar length."""
    learning_rate: NonNegativeFloat = 4e-4
    """Of Adam, at its largest."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    beam: MayChange[Beam] = 5
    """Width of the beam search."""
    length_penalty: MayChange[NonNegativeFloat] = 0.3
    """α of the beam search's score, log p(y | a) / length^α."""


@dataclass(frozen=True)
class ImagesCaptionsOptions(Training):
    """Captions of a deconvolutional model's code of a picture's grid, of all or few pictures."""

    data: str = "scenes"
    """scenes, scenes-clothing, flickr8k, hub:NAME, or a folder or file of captioned pictures."""
    captions: Share = 1.0
    """Share of the training pictures whose captions are shown."""
    attention: bool = False
    """Let words look at the places of the code's maps; else the code is one place."""
    maps: PositiveInt = 64
    """Dictionary elements of the first layer."""
    kernel: PositiveInt = 1
    """Side of its elements, places of the grid."""
    pool: PositiveInt = 1
    """Side of its blocks; 1 for no unpooling."""
    top: PositiveInt = 32
    """Dictionary elements of the second layer, of one place each."""
    weight: PositiveFloat | None = None
    """Of a caption beside a picture, xi [numbers in a grid / (words x share of captions)]."""
    encoder: str | None = None
    """Frozen encoder of pictures [pixels for scenes, else efficientnet-lite2]."""
    features: MayChange[Path] = Path("features")
    """Folder for the encoder's extracted features."""
    hidden: PositiveInt = 512
    """Width of the decoder's state and of its words."""
    dropout: Share = 0.5
    """Dropout rate in training."""
    minimum: PositiveInt = 5
    """How often a word must occur in the training captions to be in the vocabulary."""
    temperature: PositiveFloat = 0.7
    """Temperature of GumbelSoftmax, for the blocks' places."""
    estimator: Literal["GumbelSoftmax"] = "GumbelSoftmax"
    """Gradient estimator."""
    batch_size: PositiveInt | None = 64
    """Captions a step, of similar length."""
    learning_rate: NonNegativeFloat = 1e-3
    """Of Adam, at its largest."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    beam: MayChange[PositiveInt] = 5
    """Width of the beam search."""
    length_penalty: MayChange[NonNegativeFloat] = 0.3
    """α of the beam search's score, log p(y | a) / length^α."""


@dataclass(frozen=True)
class CaptionOptions:
    """Caption pictures with a trained captioner, and plot its attention.

    lowerbound caption runs/captioner photo.jpg other.png
    """

    run: Positional[Path]
    """Directory of a finished fit of the recipe captioner."""
    images: Positional[tuple[Path, ...]]
    """Pictures (jpg, png, …)."""
    beam: Beam = 5
    """Width of the beam search."""
    length_penalty: NonNegativeFloat = 0.3
    """α of the beam search's score, log p(y | a) / length^α."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    encoder: str | None = None
    """The run's encoder, to be repeated where it is MODULE:FACTORY: such code runs only on
    request."""
