"""Word vectors by skip-gram (Mikolov et al. 2013), or Gaussian posteriors of them.

lowerbound fit skipgram corpus.txt
lowerbound fit skipgram brown,ptb --compile --precision bf16-mixed
lowerbound fit skipgram ptb --bayesian --held-out 0.05
"""

from __future__ import annotations

import functools

from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from guides.empty import Empty
from guides.word_vectors import MeanFieldSkipGram
from inference.engine.optim import RowwiseSGD, SparseAdagrad
from inference.recipes.contract import Figures, Recipe
from inference.recipes.named_estimators import named_estimator
from inference.recipes.words.data.corpus import Corpus, load_corpus
from inference.recipes.words.data.skip_grams import Chunks, staying
from inference.recipes.words.options import SkipGramOptions as Options
from inference.recipes.words.report import beliefs, examinations, pictures, vectors
from inference.results.run import Run
from inference.util.errors import UserError
from ppl_models.nce import NCE, Contrast, InfoNCE, NegativeSampling, Noise, SampledSoftmax
from ppl_models.skip_gram import GaussianVectors, Products, SkipGram, WordVectors

REACH = 0.3  # largest norm of a vector's update


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    found = load_corpus(options.data, options.minimum, options.tokens)
    train, valid = train_and_held_out(options, found)
    told = functools.partial(report, options=options, corpus=found)
    if options.bayesian:
        model, guide = bayesian(options, train)
        adagrad = functools.partial(SparseAdagrad, lr=options.learning_rate)
        elbo = named_estimator(options.estimator, options.particles, nesting=3)
        return Recipe(model, guide, train, valid, elbo, adagrad, told)
    rate = options.learning_rate * min(options.batch_size or len(train), len(train))  # a sum's
    sgd = functools.partial(RowwiseSGD, lr=rate, reach=REACH)
    alone = Trace_ELBO()  # no latent: all estimators are the same
    return Recipe(point(options, train), Empty(), train, valid, alone, sgd, told)


def train_and_held_out(options: Options, corpus: Corpus) -> tuple[Chunks, Chunks | None]:
    """Rows of the text, and of the held-out sentences, if any."""
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
    """Rows of a part of the text; subsampling of frequent words and noise as in word2vec."""
    try:
        noise = Noise(corpus.counts.double() ** options.noise_power)
    except ValueError as error:
        raise UserError(f"--noise-power {options.noise_power}: {error}") from None
    return Chunks(
        {"words": corpus.tokens[part], "sentence": corpus.sentence[part]},
        keep=staying(corpus.counts, options.subsample),
        noise=noise,
        beside=options.shared,
        length=options.length,
        window=options.window,
    )


def point(options: Options, train: Chunks) -> SkipGram:
    """Word vectors as parameters, initialised as in word2vec."""
    words, width = len(train.keep), options.hidden
    u, v = WordVectors(words, width, 1 / width), WordVectors(words, width)
    return SkipGram(contrast(options, u, Products(v), train), options.window)


def bayesian(options: Options, train: Chunks) -> tuple[SkipGram, MeanFieldSkipGram]:
    """(model, guide) of latent vectors."""
    inside, anywhere = train.places_of_words()
    u = GaussianVectors("u", options.hidden, inside)
    v = GaussianVectors("v", options.hidden, anywhere)
    model = SkipGram(contrast(options, u, Products(v), train), options.window)
    return model, MeanFieldSkipGram(model, u, v)


def contrast(options: Options, u: nn.Module, score: Products, train: Chunks) -> Contrast:
    """The objective of the scores u · v."""
    kinds: dict[str, type[Contrast]] = {
        "negative-sampling": NegativeSampling,
        "nce": NCE,
        "sampled-softmax": SampledSoftmax,
        "info-nce": InfoNCE,
    }
    return kinds[options.objective](u, score, train.noise, options.k, len(train))


def report(run: Run, options: Options, corpus: Corpus) -> Figures:
    """Writes the vectors and a map; figures of the test sets and of the posterior uncertainty."""
    found = vectors.keyed_vectors(corpus.words, learned(run).detach(), corpus.counts)
    if run.directory is not None:
        vectors.save_vectors(found, run.directory / vectors.VECTORS_FILE)
        if pictures.enough(found):
            pictures.plot_map(found, run.directory / "words.png")
    figures = examinations.examine(found)
    guide = run.programs[0].guide
    if isinstance(guide, MeanFieldSkipGram):
        scale = guide.u.log_scale.detach().exp().mean(-1)
        figures |= beliefs.uncertainty_figures(corpus.counts, scale)
        if run.directory is not None:
            beliefs.plot_uncertainty(corpus.counts, scale, run.directory / "beliefs.png")
    return figures


def learned(run: Run) -> Tensor:
    """(V, D) the vectors u of the first seed, or their posterior means."""
    model, guide = run.programs[0].model, run.programs[0].guide
    if isinstance(guide, MeanFieldSkipGram):
        return guide.u.loc
    assert isinstance(model, SkipGram)
    assert isinstance(model.contrast.encode, WordVectors)
    return model.contrast.encode.table
