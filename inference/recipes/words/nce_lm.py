"""Language models whose next word is told from noise: Mnih & Teh 2012, seed 003.

lowerbound fit nce-lm
lowerbound fit nce-lm --score lstm --hidden 200 --batch-size 20 --clip-norm 10
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from inference.recipes.contract import Recipe, Training

if TYPE_CHECKING:
    from torch import Tensor

    from inference.data.columns import Columns
    from inference.recipes.words.data.text import Text
    from inference.results.report import Estimate
    from inference.results.run import Run


@dataclass(frozen=True)
class Options(Training):
    """A language model learned by telling words from noise, without a sum over the vocabulary."""

    data: str = "ptb"
    """ptb, or the path of a text, or of a folder with train.txt, valid.txt and test.txt."""
    score: Literal["log-bilinear", "lstm"] = "log-bilinear"
    """s(w | c) = u_w · h(c) + b_w; h of the words just before, or of all that an LSTM has read."""
    objective: Literal["nce", "negative-sampling", "sampled-softmax", "info-nce", "softmax"] = "nce"
    """What is asked of the scores; softmax sums over the whole vocabulary at every step."""
    k: int = 25
    """Noise words for each word."""
    shared: int | None = 500
    """Noise words drawn for the whole batch, in place of k for each word (None)."""
    noise_power: float = 1.0
    """Noise is the training words' counts to this power (0: uniform)."""
    learn_log_z: bool = False
    """Of nce: learn log Z in place of fixing it at 0."""
    length: int | None = None
    """Words before the next one [5], or, for the LSTM, of a row that it reads [35]."""
    hidden: int = 100
    """Length of the words' vectors and of h."""
    dropout: float = 0.0
    """Of the LSTM's words and states, in training."""
    minimum: int = 1
    """How often a word must occur in the training text to be no <unknown>."""
    epochs: int = 5
    """Passes over the training text."""
    batch_size: int | None = 500
    """Words a step; for the LSTM, rows of words."""
    learning_rate: float = 3e-3
    """Of Adam, at its largest; of Adagrad, which likes .1, with --sparse."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    sparse: bool = False
    """Update only the rows of a batch's words, by Adagrad: a step's time forgets the vocabulary."""


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    from pyro.infer import Trace_ELBO

    from guides.empty import Empty
    from inference.engine.optim import SparseAdagrad
    from inference.recipes.words.data import text

    found = text.load(options.data, options.minimum)
    train, valid = (columns(options, part) for part in (found.train, found.valid))
    adagrad = functools.partial(SparseAdagrad, lr=options.learning_rate)
    return Recipe(
        program(options, found.counts(), len(train)),
        Empty(),
        train,
        valid,
        estimator=Trace_ELBO(),  # nothing is latent: all estimators are one
        optimizer=adagrad if options.sparse else None,
        report=lambda run: report(run, options, found),
    )


def columns(options: Options, part: Tensor) -> Columns:
    """Words with what is before them: c and w, see ``inference.recipes.words.data.text``."""
    from inference.recipes.words.data.text import continuations, rows

    if options.score == "lstm":
        return rows(part, options.length or 35)
    return continuations(part, options.length or 5)


def program(options: Options, counts: Tensor, size: int) -> Any:
    """The scores, and the question asked of them; b_w begins at the words' log-frequencies."""
    from inference.util.errors import UserError
    from ppl_models.language import LogBilinear, Recurrent, WordScores
    from ppl_models.nce import NCE, InfoNCE, NegativeSampling, SampledSoftmax, Softmax

    if options.k < 1 or (options.shared is not None and options.shared < 1):
        raise UserError("k and shared count noise words: give at least 1")
    words, width, sparse = len(counts), options.hidden, options.sparse
    encode: Any
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
    kinds = {"negative-sampling": NegativeSampling, "sampled-softmax": SampledSoftmax}
    return kinds.get(options.objective, InfoNCE)(*given)


def noise_of(counts: Tensor, power: float) -> Any:
    """q ∝ counts^power."""
    from inference.util.errors import UserError
    from ppl_models.nce import Noise

    try:
        return Noise(counts.double() ** power)
    except ValueError:
        raise UserError(
            f"--noise-power {power:g} takes counts out of the range of numbers, and noise must be "
            "able to draw every word: give 1 (their frequencies), 0.75 (word2vec's) or 0 (uniform)"
        ) from None


def report(run: Run, options: Options, text: Text) -> dict[str, Any]:
    """Perplexity with the true normaliser, with none (Z = 1), and how far log Z drifts from 0."""
    figures: dict[str, Any] = {}
    for name, part in (("valid", text.valid), ("test", text.test)):
        own, normalisers = scored(run, options, part)
        figures |= {
            f"perplexity, {name}": perplexity(own - normalisers),
            f"log Z, {name}": float(normalisers.mean()),
            f"log Z, its spread over contexts, {name}": float(normalisers.std()),
        }
        if options.objective in ("nce", "negative-sampling"):  # others leave Z to chance
            figures[f"perplexity as if Z were 1, {name}"] = perplexity(own)
    if run.directory is not None:
        text.vocabulary.save(run.directory / "vocabulary.json")
    return figures


def perplexity(log_p: Tensor) -> Estimate:
    """exp(−mean log p) of (N,) words, and its standard error by the delta method."""
    import math

    from inference.results.report import Estimate, mean_and_error

    nats, error = mean_and_error(-log_p)
    value = math.exp(min(nats, 700.0))
    return Estimate(value, value * error)


def scored(run: Run, options: Options, part: Tensor) -> tuple[Tensor, Tensor]:
    """(log u(w | c), log Z(c)) of each word, (N,) nats; of the first seed."""
    import torch

    from inference.util import rng

    program, found = run.programs[0], []
    model: Any = program.model
    with rng.forked(), program.scope(), program.evaluation():
        for h, w in features(run, options, model, part):
            log_u = model.log_u(h)
            own = log_u.gather(-1, w.long().unsqueeze(-1)).squeeze(-1)
            found.append(torch.stack([own, log_u.logsumexp(-1)]))
    own, normalisers = torch.cat(found, 1)
    return own, normalisers


def features(run: Run, options: Options, model: Any, part: Tensor) -> Iterator[tuple[Any, Any]]:
    """(h (n, D), the word after it (n,)) through the text; the LSTM carries its state along."""
    from inference.data.columns import slices

    if options.score == "log-bilinear":
        placed = run.place(columns(options, part))
        for batch in placed.batches(slices(len(placed), 1000)):
            yield model.encode(batch["c"]), batch["w"]
        return
    part, state = part.to(run.device), None
    for chunk in slices(len(part) - 1, 1000):
        h, state = model.encode.read(part[chunk][None], state)
        yield h[0], part[1:][chunk]
