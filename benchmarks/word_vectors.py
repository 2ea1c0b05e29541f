"""Word vectors of a real text, ours and gensim's in turn: words a second, and test scores.

python -m benchmarks.word_vectors brown,ptb

Both use the same sentences and vocabulary, five epochs, three seeds; ours are compiled, with
matmuls in bfloat16.  The interval is from a bootstrap over pairs of words.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.skip_gram import word2vec
from guides.empty import Empty
from inference import fit
from inference.engine.optim import RowwiseSGD
from inference.engine.training.schedules import cosine
from inference.recipes.words import skipgram
from inference.recipes.words.data import corpus
from inference.recipes.words.data.corpus import Corpus
from inference.recipes.words.report import examinations
from inference.recipes.words.report.vectors import keyed_vectors
from inference.recipes.words.skipgram import Options
from ppl_models.skip_gram import WordVectors

SEEDS, THREADS = 3, 2
RHO = "{}, Spearman's ρ"
FIGURES = ("WordSim-353", "SimLex-999")


@dataclass(frozen=True)
class Trained:
    """One training: whose, the seed, its speed, and its figures."""

    whose: str
    seed: int
    speed: float
    figures: dict[str, Any]


def ours(found: Corpus, options: Options, seed: int) -> Trained:
    """Fitted by the recipe's program; the first step, which compiles, is not timed."""
    torch.manual_seed(seed)
    data, _ = skipgram.train_and_held_out(options, found)
    model = skipgram.point(options, data)
    sgd = partial(
        RowwiseSGD,
        lr=options.learning_rate * (options.batch_size or len(data)),
        reach=skipgram.REACH,
    )
    began: list[float] = []

    def schedule(progress: float) -> float:
        began.append(time.perf_counter())
        return cosine(progress)

    run = partial(fit, compile=True, precision="bf16-mixed", batch_size=options.batch_size)
    run(model, Empty(), data, None, sgd, epochs=options.epochs, schedule=schedule, seeds=[seed])
    seconds = time.perf_counter() - began[1]
    words = model.contrast.encode
    assert isinstance(words, WordVectors)
    vectors = keyed_vectors(found.words, words.table, found.counts)
    return trained("lowerbound", seed, options.epochs * len(found.tokens) / seconds, vectors)


def gensim(found: Corpus, options: Options, seed: int) -> Trained:
    """gensim's, with as many workers as we have threads; building its vocabulary is not timed."""
    model, sentences = word2vec(found, options, THREADS, seed)
    began = time.perf_counter()
    model.train(sentences, total_examples=len(sentences), epochs=options.epochs)
    speed = options.epochs * len(found.tokens) / (time.perf_counter() - began)
    return trained("gensim", seed, speed, model.wv)


def trained(whose: str, seed: int, speed: float, vectors: Any) -> Trained:
    """Score the vectors."""
    return Trained(whose, seed, speed, dict(examinations.examine(vectors)))


def measure(source: str) -> Iterator[Trained]:
    """One seed after another, ours and gensim's in turn."""
    found, options = corpus.load_corpus(source), Options()
    for seed in range(SEEDS):
        yield ours(found, options, seed)
        yield gensim(found, options, seed)


def table(rows: list[Trained]) -> Table:
    """A row a training."""
    out = Table(title="skip-gram, five epochs, on the same two cores")
    for heading in ("whose", "seed", "words a second", *FIGURES, "analogies, % right"):
        out.add_column(heading, justify="right")
    for row in rows:
        rho = [interval(row.figures, name) for name in FIGURES]
        right = row.figures["analogies, % right"]
        analogies = f"{right.value:.1f} ± {right.error:.1f}"
        out.add_row(row.whose, str(row.seed), f"{row.speed:,.0f}", *rho, analogies)
    return out


def interval(figures: dict[str, Any], name: str) -> str:
    """ρ and its 95 % interval."""
    rho = figures[RHO.format(name)].value
    low, high = (figures[f"{name}, ρ, 95 % {end}"] for end in ("from", "to"))
    return f"{rho:.3f} ({low:.3f} – {high:.3f})"


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    Console(width=110).print(table(list(measure(sys.argv[1]))))
