"""The flags of the recipes of words, and of ``lowerbound neighbours``."""

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
    """A language model by noise-contrastive estimation, without a sum over the vocabulary."""

    data: str = "ptb"
    """ptb, or the path of a text, or of a folder with train.txt, valid.txt and test.txt."""
    score: Literal["log-bilinear", "lstm"] = "log-bilinear"
    """s(w | c) = u_w · h(c) + b_w; h from the last few words, or from an LSTM."""
    objective: Literal["nce", "negative-sampling", "sampled-softmax", "info-nce", "softmax"] = "nce"
    """Objective of the scores; softmax sums over the whole vocabulary at every step."""
    k: PositiveInt = 25
    """k, noise words for each word."""
    shared: PositiveInt | None = 500
    """Noise words shared by the whole batch; None draws k for each word."""
    noise_power: FiniteFloat = 1.0
    """Noise distribution ∝ training counts to this power (0: uniform)."""
    learn_log_z: bool = False
    """For nce: learn log Z in place of fixing it at 0."""
    length: PositiveInt | None = None
    """Length of the context [5], or, for the LSTM, of a row [35]."""
    hidden: PositiveInt = 100
    """Length of the words' vectors and of h."""
    dropout: Share = 0.0
    """Dropout of the LSTM's inputs and outputs, in training."""
    minimum: PositiveInt = 1
    """How often a word must occur in the training text, else it is <unknown>."""
    epochs: PositiveInt = 5
    """Passes over the training text."""
    batch_size: PositiveInt | None = 500
    """Words a step; for the LSTM, rows of words."""
    learning_rate: NonNegativeFloat = 3e-3
    """Largest learning rate of Adam; with --sparse, of Adagrad, where 0.1 is typical."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    sparse: bool = False
    """Update only the rows of a batch's words, by Adagrad: a step's time does not grow with V."""


@dataclass(frozen=True)
class SkipGramOptions(Training):
    """Word vectors by skip-gram: predict the words in a window around each word."""

    data: str = "enwiki"
    """A text file, a folder, ptb, brown, enwiki (gensim's sample), or several: brown,ptb."""
    tokens: Literal["blanks", "words"] = "blanks"
    """Words are separated by blanks, or found by gensim's tokenizer."""
    minimum: PositiveInt = 5
    """How often a word must occur to be in the vocabulary."""
    subsample: PositiveFloat = 1e-3
    """Words more frequent than this are dropped at random, as in word2vec; 1 keeps all."""
    window: PositiveInt = 5
    """Largest half-width of a window."""
    hidden: PositiveInt = 100
    """Length of a vector."""
    objective: Literal["negative-sampling", "nce", "sampled-softmax", "info-nce"] = (
        "negative-sampling"
    )
    """Objective of the scores."""
    k: PositiveInt = 5
    """k, the weight of noise: that many noise words for each neighbour."""
    shared: PositiveInt = 16
    """Noise words drawn for a row of text and shared by its neighbours."""
    noise_power: FiniteFloat = 0.75
    """Noise distribution ∝ counts to this power."""
    bayesian: bool = False
    """Latent vectors with a Gaussian prior, and their posterior uncertainty."""
    held_out: ShareBelowOne = 0.0
    """Share of the sentences, from the end, held out for the bound."""
    length: PositiveInt = 32
    """Consecutive words in a row."""
    batch_size: PositiveInt | None = 64
    """Rows a step."""
    epochs: PositiveInt = 5
    """Passes over the text."""
    learning_rate: NonNegativeFloat = 0.025
    """Learning rate of SGD for a pair, as in word2vec; with --bayesian, of Adagrad (typically
    0.1)."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    estimator: EstimatorName = "TraceMeanField_ELBO"
    """Gradient estimator, with --bayesian."""


@dataclass(frozen=True)
class NeighboursOptions:
    """Print the ten words nearest to each word, or to a sum of words, and their cosines.

    lowerbound neighbours runs/skipgram king prague

    lowerbound neighbours vectors.bin king - man + woman
    """

    vectors: Positional[Path]
    """Directory of a run with a vectors.txt, or a file in word2vec's format (.txt, .vec, .bin;
    .gz)."""
    words: Positional[tuple[str, ...]]
    """Words, or one sum with + and -."""
