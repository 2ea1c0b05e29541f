"""Language models by noise-contrastive estimation: Mnih & Teh 2012.

lowerbound fit nce-lm
lowerbound fit nce-lm --score lstm --hidden 200 --batch-size 20 --clip-norm 10
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from guides.empty import Empty
from inference.data.columns import Columns, slices
from inference.engine.optim import SparseAdagrad
from inference.recipes.contract import Figures, Recipe
from inference.recipes.words.data.text import Text, continuations, load_text, sequences
from inference.recipes.words.options import NCELMOptions as Options
from inference.results.report import Estimate
from inference.results.run import Run
from inference.util import rng
from inference.util.errors import UserError
from ppl_models.language import LogBilinear, Recurrent, WordScores
from ppl_models.nce import (
    NCE,
    Contrast,
    Encode,
    InfoNCE,
    NegativeSampling,
    Noise,
    SampledSoftmax,
    Softmax,
)


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    found = load_text(options.data, options.minimum)
    train, valid = (columns(options, part) for part in (found.train, found.valid))
    adagrad = functools.partial(SparseAdagrad, lr=options.learning_rate)
    return Recipe(
        program(options, found.counts(), len(train)),
        Empty(),
        train,
        valid,
        estimator=Trace_ELBO(),  # no latent: all estimators are the same
        optimizer=adagrad if options.sparse else None,
        report=lambda run: report(run, options, found),
    )


def columns(options: Options, part: Tensor) -> Columns:
    """Words w and their contexts c, see ``inference.recipes.words.data.text``."""
    if options.score == "lstm":
        return sequences(part, options.length or 35)
    return continuations(part, options.length or 5)


def program(options: Options, counts: Tensor, size: int) -> Contrast | Softmax:
    """The scores and their objective; b_w is initialised to the words' log-frequencies."""
    words, width, sparse = len(counts), options.hidden, options.sparse
    encode: Recurrent | LogBilinear
    if options.score == "lstm":
        encode = Recurrent(words, width, options.dropout, sparse)
    else:
        encode = LogBilinear(words, options.length or 5, width, sparse)
    unigram = (counts / counts.sum()).log()
    score = WordScores(unigram, width, sparse)
    if options.objective == "softmax":
        return Softmax(encode, score, size)
    noise = noise_of(counts, options.noise_power)
    given = (encode, score, noise, options.k, size, options.shared)
    if options.objective == "nce":
        return NCE(*given, learn_log_z=options.learn_log_z)
    kinds: dict[str, type[Contrast]] = {
        "negative-sampling": NegativeSampling,
        "sampled-softmax": SampledSoftmax,
        "info-nce": InfoNCE,
    }
    return kinds[options.objective](*given)


def noise_of(counts: Tensor, power: float) -> Noise:
    """The noise q ∝ counts^power."""
    try:
        return Noise(counts.double() ** power)
    except ValueError:
        raise UserError(
            f"--noise-power {power:g} makes counts overflow or vanish, and noise must be "
            "able to draw every word: give 1 (their frequencies), 0.75 (word2vec's) or 0 (uniform)"
        ) from None


def report(run: Run, options: Options, text: Text) -> Figures:
    """Perplexity with the true normaliser, and with none (Z = 1); mean and deviation of log Z."""
    figures: Figures = {}
    for name, part in (("valid", text.valid), ("test", text.test)):
        own, normalisers = log_scores(run, options, part)
        figures |= {
            f"perplexity, {name}": perplexity(own - normalisers),
            f"log Z, {name}": float(normalisers.mean()),
            f"log Z, its spread over contexts, {name}": float(normalisers.std()),
        }
        if options.objective in ("nce", "negative-sampling"):  # other objectives do not determine Z
            figures[f"perplexity as if Z were 1, {name}"] = perplexity(own)
    if run.directory is not None:
        text.vocabulary.save(run.directory / "vocabulary.json")
    return figures


def perplexity(log_p: Tensor) -> Estimate:
    """exp(−mean log p) of (N,) words, and its standard error by the delta method."""
    nats, error = Estimate.of(-log_p)
    value = math.exp(min(nats, 700.0))
    return Estimate(value, value * error)


def log_scores(run: Run, options: Options, part: Tensor) -> tuple[Tensor, Tensor]:
    """(log u(w | c), log Z(c)) of each word, (N,) nats; of the first seed."""
    program, found = run.programs[0], []
    model = program.model
    assert isinstance(model, Contrast | Softmax)
    with rng.forked(), program.scope(), program.evaluation():
        for h, w in text_features(run, options, model.encode, part):
            log_u = model.log_u(h)
            own = log_u.gather(-1, w.long().unsqueeze(-1)).squeeze(-1)
            found.append(torch.stack([own, log_u.logsumexp(-1)]))
    own, normalisers = torch.cat(found, 1)
    return own, normalisers


def text_features(
    run: Run, options: Options, encode: Encode, part: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """(h (n, D), the word after it (n,)) through the text; the LSTM keeps its state throughout."""
    if not isinstance(encode, Recurrent):
        placed = run.place(columns(options, part))
        for batch in placed.batches(slices(len(placed), 1000)):
            yield encode(batch["c"]), batch["w"]
        return
    part, state = part.to(run.device), None
    for chunk in slices(len(part) - 1, 1000):
        h, state = encode.read(part[chunk][None], state)
        yield h[0], part[1:][chunk]
