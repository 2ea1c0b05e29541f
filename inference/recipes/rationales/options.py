"""The flags of rationales, and of highlighting a text with trained ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from inference.recipes.options import (
    EstimatorName,
    MayChange,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Rule,
    Share,
    WithBaseline,
)

Rate = Annotated[float, Rule(lambda r: 0 < r < 1, "a rate between 0 and 1")]


@dataclass(frozen=True)
class RationalesOptions(WithBaseline):
    """Rationales: a label said from the few units of a text that a latent mask keeps."""

    data: str = "planted"
    """planted, movies, rt, or the path of a folder of {train,val,test}.jsonl, of a .jsonl, or of a
    .csv with columns text and label."""
    also: str | None = None
    """Further labelled texts to train on, as for --data."""
    unit: Literal["sentence", "word"] = "sentence"
    """What a mask keeps or drops."""
    longest: PositiveInt = 50
    """Words of a unit; longer sentences are cut into several."""
    limit: PositiveInt = 3000
    """Words that a text may have."""
    reading: Literal["observed", "prior"] = "observed"
    """The cost as an observed event (the paper's objective), or as the prior of the mask."""
    selection: NonNegativeFloat = 0.005
    """s, nats for each unit kept."""
    coherence: NonNegativeFloat = 0.0
    """c, nats for each change between neighbours."""
    rate: Rate | None = None
    """Hold the share of units kept at this rate: s is its multiplier."""
    beta: PositiveFloat = 1.0
    """For --reading prior: weight of log p(z) - log q(z); 1 is the ELBO."""
    learn_cost: bool = False
    """For --reading prior: learn s and c."""
    masks: Literal["independent", "sequential"] = "independent"
    """Whether a unit is kept regardless of the others, or given those before it."""
    guide: Literal["selector", "label"] = "selector"
    """The selector itself, or one that knows the label."""
    human: Share = 0.0
    """Share of the training texts whose human marks are shown."""
    encoder: Literal["bag", "convolution", "lstm"] = "bag"
    """How words in a unit, and units in a text, are read."""
    width: PositiveInt = 64
    """Of a unit's vector."""
    vectors: str = "none"
    """Initial vectors of the words: none (drawn), glove, or a file of them."""
    frozen: bool = False
    """Keep the words' vectors as they are."""
    pairs: NonNegativeInt = 0
    """Rows of a table of vectors for neighbouring words; 0 for none."""
    dropout: Share = 0.0
    """Dropout of the words' vectors, in training."""
    minimum: PositiveInt = 2
    """How often a word must occur in the training texts."""
    estimator: EstimatorName = "LeaveOneOut"
    """Gradient estimator."""
    particles: PositiveInt = 4
    """Draws from the guide a step."""
    batch_size: PositiveInt | None = 32
    """Texts a step; None for all of them."""
    epochs: PositiveInt = 20
    """Passes over the training texts."""
    learning_rate: NonNegativeFloat = 3e-3
    """Of Adam, at its largest."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    judge: MayChange[Literal["valid", "test"]] = "test"
    """The texts that the report is about; choose options on the validation texts."""
    test_samples: MayChange[PositiveInt] = 10
    """K: draws whose predictions are averaged, and of the bound L_K."""


@dataclass(frozen=True)
class HighlightOptions:
    """Mark the units on which the label of a text rests, with a finished fit of rationales.

    lowerbound highlight runs/rationales review.txt
    """

    run: Positional[Path]
    """Directory of a finished fit of the recipe rationales."""
    texts: Positional[tuple[Path, ...]]
    """Text files."""
    rate: Rate = 0.3
    """Share of the words to mark."""
