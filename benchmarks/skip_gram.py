"""Word vectors: an epoch of fit, uncompiled and compiled, against gensim's Word2Vec.

Both read the same text: a million words as frequent as Zipf's, in sentences of twenty.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from pyro.infer import Trace_ELBO

from benchmarks.timing import Row, Step, in_turn, rows
from guides.empty import Empty
from inference.engine.optim import RowwiseSGD
from inference.engine.program.program import Program
from inference.engine.training.loop import TrainingRun, take_step
from inference.engine.training.plan import Plan
from inference.engine.training.seed_training import SeedTraining
from inference.recipes.words import skipgram
from inference.recipes.words.data.corpus import Corpus
from inference.recipes.words.skipgram import Options
from ppl_models.nce import Noise

WORDS, TOKENS, SENTENCE = 20_000, 1_000_000, 20
GOALS = {"gensim": 1.0}
OPTIONS = Options(minimum=1)


def text() -> Corpus:
    """A corpus of words drawn independently."""
    tokens = Noise(1 / torch.arange(1.0, WORDS + 1)).sample(TOKENS).int()
    sentence = torch.arange(TOKENS, dtype=torch.int32) // SENTENCE
    names = tuple(f"w{i}" for i in range(WORDS))
    return Corpus(tokens, sentence, names, 1 + tokens.bincount(minlength=WORDS))


def fitted(corpus: Corpus, compiled: bool, short: bool = False) -> Step:
    """An epoch of the steps that fit takes; ``short``: products in bfloat16."""

    def loop() -> Iterator[None]:
        torch.manual_seed(0)
        data, _ = skipgram.train_and_held_out(OPTIONS, corpus)
        program = Program(skipgram.point(OPTIONS, data), Empty())
        batch = OPTIONS.batch_size or len(data)
        plan = Plan(
            rows=len(data),
            steps=10**6,
            batch_size=batch,
            device=torch.device("cpu"),
            precision="bf16-mixed" if short else "float32",
            compile=compiled,
        )
        sgd = partial(RowwiseSGD, lr=OPTIONS.learning_rate * batch, reach=skipgram.REACH)
        with program.scope():
            seed = SeedTraining(program, Trace_ELBO(), data=data, plan=plan, seed=0)
            training = TrainingRun([seed], seed.gradient(), sgd)
            while True:
                for row in training.batches():
                    take_step(training, row)
                training.end_epoch()
                yield

    return partial(next, loop())


def word2vec(corpus: Corpus, options: Options, workers: int, seed: int = 0) -> tuple[Any, Any]:
    """gensim's model with its vocabulary built, and the sentences as strings."""
    from gensim.models import Word2Vec

    ends = (corpus.sentence.diff().nonzero().flatten() + 1).tolist()
    parts = corpus.tokens.tensor_split(ends)
    sentences = [[corpus.words[i] for i in part.tolist()] for part in parts]
    model = Word2Vec(
        vector_size=options.hidden,
        window=options.window,
        negative=options.k,
        sample=options.subsample,
        sg=1,
        min_count=1,
        workers=workers,
        seed=seed,
    )
    model.build_vocab(sentences)
    return model, sentences


def gensim(corpus: Corpus, workers: int) -> Step:
    """An epoch of gensim's."""
    model, sentences = word2vec(corpus, OPTIONS, workers)
    return lambda: model.train(sentences, total_examples=len(sentences), epochs=1)


def measure() -> Iterator[Row]:
    """Seconds an epoch."""
    torch.manual_seed(0)
    corpus = text()
    contenders = {
        "compiled, bf16": fitted(corpus, compiled=True, short=True),
        "compiled": fitted(corpus, compiled=True),
        "fit": fitted(corpus, compiled=False),
    }
    try:
        contenders["gensim"] = gensim(corpus, torch.get_num_threads())
    except ImportError:
        print("gensim is not installed: no comparison (pip install '.[bench]')")
        return
    times = in_turn(contenders, blocks=12, steps=1)
    for ours in contenders:
        if ours != "gensim":
            yield from rows("skip-gram, an epoch", ours, GOALS, times)
