"""A step's time for a vocabulary a hundred times larger: noise-contrastive, and the full softmax.

python -m benchmarks.vocabulary docs/systems/words-vocabulary.png draws it against the vocabulary.
Steps are those of fit: gradient, norm, and Adagrad of the batch's rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from pyro.infer import Trace_ELBO

from benchmarks.timing import Row, Step, in_turn, rows
from guides.empty import Empty
from inference.engine.gradient.plain import PlainGradient
from inference.engine.optim import SparseAdagrad
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from ppl_models.language import LogBilinear, WordScores
from ppl_models.nce import NCE, Noise, Softmax

QUARTERS = (0.25, 0.5, 0.75)
SMALL, LARGE = 10_000, 1_000_000
ROWS, CONTEXT, WIDTH, K, SHARED = 500, 5, 100, 25, 500


def program(words: int, objective: str) -> Any:
    """A log-bilinear model, its words as frequent as Zipf's."""
    frequency = 1 / torch.arange(1.0, words + 1)
    encode = LogBilinear(words, CONTEXT, WIDTH, sparse=True)
    score = WordScores(frequency.log(), WIDTH, sparse=objective != "softmax")
    if objective == "softmax":
        return Softmax(encode, score, ROWS)
    shared = SHARED if objective == "shared noise" else None
    return NCE(encode, score, Noise(frequency), K, ROWS, shared)


def step(words: int, objective: str) -> Step:
    """Another batch each time, of words as frequent as Zipf's."""
    model = program(words, objective)
    text = Noise(1 / torch.arange(1.0, words + 1))
    whole = Program(model, Empty())

    def batch() -> dict[str, torch.Tensor]:
        return {"c": text.sample(ROWS, CONTEXT), "w": text.sample(ROWS)}

    with whole.scope():
        whole.initialise(batch(), ROWS)
    gradient = PlainGradient(whole, Terms(Trace_ELBO()), 1.0, nullcontext)
    optimizer = SparseAdagrad(list(gradient.named.values()), lr=0.1)

    def once() -> None:
        with whole.scope():
            gradient(batch())
            optimizer.step()

    return once


def measure() -> Iterator[Row]:
    """NCE's growth and the softmax's, and one against the other.

    Unshared noise is 25 words for each, of which more are distinct in a larger vocabulary.
    """
    torch.manual_seed(0)
    contenders = {
        f"{kind}, {words:,} words": step(words, kind)
        for kind, sizes in (
            ("shared noise", (LARGE, SMALL)),
            ("own noise", (LARGE, SMALL)),
            ("softmax", (SMALL, SMALL // 10)),
        )
        for words in sizes
    }
    shared, shared_small, own, own_small, softmax, softmax_small = contenders
    times = in_turn(contenders, blocks=20, steps=2)
    yield from rows("NCE", shared, {shared_small: 1.2, softmax: 0.2}, times)
    yield from rows("NCE", own, {own_small: 1.2}, times)
    yield from rows("a tenth of the words", softmax_small, {softmax: 0.15}, times)


def draw(path: str) -> None:
    """Milliseconds a step against the vocabulary: medians, and quartiles as bars."""
    import matplotlib.pyplot as plt

    torch.manual_seed(0)
    kinds = {"shared noise": (10**3, 10**4, 10**5, 10**6), "softmax": (10**3, 10**4, 10**5)}
    where = [(kind, words) for kind, sizes in kinds.items() for words in sizes]
    times = in_turn({f"{k} {w}": step(w, k) for k, w in where}, blocks=20, steps=2)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for kind, sizes in kinds.items():
        low, mid, high = np.array([np.quantile(times[f"{kind} {w}"], QUARTERS) for w in sizes]).T
        name = "full softmax" if kind == "softmax" else f"NCE, {SHARED} noise words a batch"
        bars = np.stack([mid - low, high - mid])
        axes.errorbar(sizes, 1e3 * mid, 1e3 * bars, marker="o", capsize=3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="words in the vocabulary", ylabel="ms a step")
    axes.set_title(f"a log-bilinear model's step, {ROWS} words a batch, {WIDTH} numbers a word")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    draw(sys.argv[1])
