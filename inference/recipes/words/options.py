"""The flags of the recipes of words, and of asking vectors for neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from inference.recipes.options import (
    EstimatorName,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Rule,
    Share,
    Training,
)

ShareBelowOne = Annotated[float, Rule(lambda x: 0 <= x < 1, "a share from 0 on, below 1")]


@dataclass(frozen=True)
class NCELMOptions(Training):
    """A language model learned by telling words from noise, without a sum over the vocabulary."""

    data: str = "ptb"
    """ptb, or the path of a text, or of a folder with train.txt, valid.txt and test.txt."""
    score: Literal["log-bilinear", "lstm"] = "log-bilinear"
    """s(w | c) = u_w · h(c) + b_w; h of the words just before, or of all that an LSTM has read."""
    objective: Literal["nce", "negative-sampling", "sampled-softmax", "info-nce", "softmax"] = "nce"
    """What is asked of the scores; softmax sums over the whole vocabulary at every step."""
    k: PositiveInt = 25
    """Noise words for each word."""
    shared: PositiveInt | None = 500
    """Noise words drawn for the whole batch, in place of k for each word (None)."""
    noise_power: FiniteFloat = 1.0
    """Noise is the training words' counts to this power (0: uniform)."""
    learn_log_z: bool = False
    """Of nce: learn log Z in place of fixing it at 0."""
    length: PositiveInt | None = None
    """Words before the next one [5], or, for the LSTM, of a row that it reads [35]."""
    hidden: PositiveInt = 100
    """Length of the words' vectors and of h."""
    dropout: Share = 0.0
    """Of the LSTM's words and states, in training."""
    minimum: PositiveInt = 1
    """How often a word must occur in the training text to be no <unknown>."""
    epochs: PositiveInt = 5
    """Passes over the training text."""
    batch_size: PositiveInt | None = 500
    """Words a step; for the LSTM, rows of words."""
    learning_rate: NonNegativeFloat = 3e-3
    """Of Adam, at its largest; of Adagrad, which likes .1, with --sparse."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    sparse: bool = False
    """Update only the rows of a batch's words, by Adagrad: a step's time forgets the vocabulary."""


@dataclass(frozen=True)
class SkipGramOptions(Training):
    """Word vectors: of every word is asked which words stand within a window around it."""

    data: str = "enwiki"
    """A text file, a folder, ptb, brown, enwiki (gensim's sample), or several: brown,ptb."""
    tokens: Literal["blanks", "words"] = "blanks"
    """Words stand between blanks, or are what gensim takes for words."""
    minimum: PositiveInt = 5
    """How often a word must occur to have vectors."""
    subsample: PositiveFloat = 1e-3
    """Words more frequent than this share of the text are left out at random; 1 keeps all."""
    window: PositiveInt = 5
    """Neighbours on either side, at most."""
    hidden: PositiveInt = 100
    """Length of a vector."""
    objective: Literal["negative-sampling", "nce", "sampled-softmax", "info-nce"] = (
        "negative-sampling"
    )
    """What is asked of the scores."""
    k: PositiveInt = 5
    """Noise words that each neighbour weighs as much as."""
    shared: PositiveInt = 16
    """Noise words drawn for a row of text, in place of k for each neighbour."""
    noise_power: FiniteFloat = 0.75
    """Noise is the words' counts to this power."""
    bayesian: bool = False
    """Latent vectors with a Gaussian prior, and how sure the text makes us of them."""
    held_out: ShareBelowOne = 0.0
    """Share of the sentences, the last ones, on which the bound is watched."""
    length: PositiveInt = 32
    """Words of running text in a row."""
    batch_size: PositiveInt | None = 64
    """Rows a step."""
    epochs: PositiveInt = 5
    """Passes over the text."""
    learning_rate: NonNegativeFloat = 0.025
    """Of SGD, a pair's as in word2vec; of Adagrad, with --bayesian, which likes .1."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    estimator: EstimatorName = "TraceMeanField_ELBO"
    """Gradient estimator, with --bayesian."""


@dataclass(frozen=True)
class NeighboursOptions:
    """Name the ten words nearest to each word, or to a sum of words, and their cosines.

    lowerbound neighbours runs/skipgram king prague

    lowerbound neighbours vectors.bin king - man + woman
    """

    vectors: Positional[Path]
    """Directory of a run that left vectors.txt, or a file of word2vec's (.txt, .vec, .bin; .gz)."""
    words: Positional[tuple[str, ...]]
    """Words; with + or - among them, one sum."""
