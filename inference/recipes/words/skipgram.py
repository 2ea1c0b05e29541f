"""Word vectors by skip-gram (Mikolov et al. 2013), or Gaussian beliefs about them; seed 003.

lowerbound fit skipgram corpus.txt
lowerbound fit skipgram brown,ptb --compile --precision bf16-mixed
lowerbound fit skipgram ptb --bayesian --held-out 0.05
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from inference.recipes.contract import EstimatorName, Recipe, Training

if TYPE_CHECKING:
    from torch import Tensor

    from inference.recipes.words.data.corpus import Corpus
    from inference.recipes.words.data.skip_grams import Chunks
    from inference.results.run import Run

REACH = 0.3  # of a vector in one step


@dataclass(frozen=True)
class Options(Training):
    """Word vectors: of every word is asked which words stand within a window around it."""

    data: str = "enwiki"
    """A text file, a folder, ptb, brown, enwiki (gensim's sample), or several: brown,ptb."""
    tokens: Literal["blanks", "words"] = "blanks"
    """Words stand between blanks, or are what gensim takes for words."""
    minimum: int = 5
    """How often a word must occur to have vectors."""
    subsample: float = 1e-3
    """Words more frequent than this share of the text are left out at random."""
    window: int = 5
    """Neighbours on either side, at most."""
    hidden: int = 100
    """Length of a vector."""
    objective: Literal["negative-sampling", "nce", "sampled-softmax", "info-nce"] = (
        "negative-sampling"
    )
    """What is asked of the scores."""
    k: int = 5
    """Noise words that each neighbour weighs as much as."""
    shared: int = 16
    """Noise words drawn for a row of text, in place of k for each neighbour."""
    noise_power: float = 0.75
    """Noise is the words' counts to this power."""
    bayesian: bool = False
    """Latent vectors with a Gaussian prior, and how sure the text makes us of them."""
    held_out: float = 0.0
    """Share of the sentences, the last ones, on which the bound is watched."""
    length: int = 32
    """Words of running text in a row."""
    batch_size: int | None = 64
    """Rows a step."""
    epochs: int = 5
    """Passes over the text."""
    learning_rate: float = 0.025
    """Of SGD, a pair's as in word2vec; of Adagrad, with --bayesian, which likes .1."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    estimator: EstimatorName = "TraceMeanField_ELBO"
    """Gradient estimator, with --bayesian."""


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    from pyro.infer import Trace_ELBO

    from guides.empty import Empty
    from guides.word_vectors import MeanFieldSkipGram
    from inference.engine.optim import RowwiseSGD, SparseAdagrad
    from inference.recipes.named_estimators import named_estimator
    from inference.recipes.words.data import corpus

    refuse(options)
    found = corpus.load(options.data, options.minimum, options.tokens)
    train, valid = rows(options, found)
    told = functools.partial(report, options=options, corpus=found)
    if options.bayesian:
        model, u, v = bayesian(options, train)
        adagrad = functools.partial(SparseAdagrad, lr=options.learning_rate)
        guide = MeanFieldSkipGram(model, u, v)
        elbo = named_estimator(options.estimator, options.particles, nesting=3)
        return Recipe(model, guide, train, valid, elbo, adagrad, told)
    rate = options.learning_rate * min(options.batch_size or len(train), len(train))  # a sum's
    sgd = functools.partial(RowwiseSGD, lr=rate, reach=REACH)
    alone = Trace_ELBO()  # nothing is latent: all estimators are one
    return Recipe(point(options, train), Empty(), train, valid, alone, sgd, told)


def refuse(options: Options) -> None:
    """Say which number cannot be, before a long text is read."""
    from inference.util.errors import UserError

    for name in ("window", "hidden", "k", "shared", "length"):
        if (number := getattr(options, name)) < 1:
            raise UserError(f"{name} is {number}: give at least 1")
    if not options.subsample > 0:
        raise UserError(f"subsample is {options.subsample}: give a share above 0; 1 keeps all")
    if not 0 <= options.held_out < 1:
        raise UserError(f"held-out is {options.held_out}: give a share of the sentences below 1")


def rows(options: Options, corpus: Corpus) -> tuple[Chunks, Chunks | None]:
    """The text as rows, and the held-out sentences', if any."""
    from inference.util.errors import UserError

    count = int(corpus.sentence[-1]) + 1
    train = corpus.sentence < (1 - options.held_out) * count
    if not options.held_out:
        return chunks(options, corpus, train), None
    if bool(train.all()):
        raise UserError(
            f"held-out is {options.held_out} of {count} sentences (lines), which is none: give a "
            "larger share, or a text of more lines"
        )
    return chunks(options, corpus, train), chunks(options, corpus, ~train)


def chunks(options: Options, corpus: Corpus, part: Tensor) -> Chunks:
    """Rows of part of the text; frequent words stay, and noise words come, as in word2vec."""
    from inference.recipes.words.data.skip_grams import Chunks, staying
    from inference.util.errors import UserError
    from ppl_models.nce import Noise

    try:
        noise = Noise(corpus.counts.double() ** options.noise_power)
    except ValueError as error:
        raise UserError(f"noise-power {options.noise_power}: {error}") from None
    return Chunks(
        {"words": corpus.tokens[part], "sentence": corpus.sentence[part]},
        keep=staying(corpus.counts, options.subsample),
        noise=noise,
        beside=options.shared,
        length=options.length,
        window=options.window,
    )


def point(options: Options, train: Chunks) -> Any:
    """Vectors to be learned; word2vec's first values."""
    from ppl_models.skip_gram import Products, SkipGram, WordVectors

    words, width = len(train.keep), options.hidden
    u, v = WordVectors(words, width, 1 / width), WordVectors(words, width)
    return SkipGram(contrast(options, u, Products(v), train), options.window)


def bayesian(options: Options, train: Chunks) -> Any:
    """Latent vectors, and the two sites they are."""
    from ppl_models.skip_gram import GaussianVectors, Products, SkipGram

    inside, anywhere = train.places_of_words()
    u = GaussianVectors("u", options.hidden, inside)
    v = GaussianVectors("v", options.hidden, anywhere)
    return SkipGram(contrast(options, u, Products(v), train), options.window), u, v


def contrast(options: Options, u: Any, score: Any, train: Chunks) -> Any:
    """What is asked of the scores u · v."""
    from ppl_models.nce import NCE, InfoNCE, NegativeSampling, SampledSoftmax

    kinds = {
        "negative-sampling": NegativeSampling,
        "nce": NCE,
        "sampled-softmax": SampledSoftmax,
        "info-nce": InfoNCE,
    }
    return kinds[options.objective](u, score, train.noise, options.k, len(train))


def report(run: Run, options: Options, corpus: Corpus) -> dict[str, Any]:
    """The vectors as a file and a map, what they are worth; how sure we are of rare words."""
    from inference.recipes.words.report import word_beliefs, word_pictures, word_vectors

    program = run.programs[0]
    u = program.guide.u.loc if options.bayesian else program.model.contrast.encode.table  # type: ignore[attr-defined]
    vectors = word_vectors.build(corpus.words, u.detach(), corpus.counts)
    if run.directory is not None:
        word_vectors.save(vectors, run.directory / word_vectors.KEPT)
        if word_pictures.enough(vectors):
            word_pictures.draw(vectors, run.directory / "words.png")
    figures = dict(word_vectors.evaluate(vectors))
    if options.bayesian:
        scale = program.guide.u.log_scale.detach().exp().mean(-1)  # type: ignore[attr-defined]
        figures |= word_beliefs.figures(corpus.counts, scale)
        if run.directory is not None:
            word_beliefs.draw(corpus.counts, scale, run.directory / "beliefs.png")
    return figures
