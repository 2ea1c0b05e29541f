"""How well scores of words agree with the spans that people marked.

Average precision and F1 of words are means over texts, as in ERASER (DeYoung et al. 2020); IOU F1
counts a span as found if its intersection with one of ours is at least half of their union.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import average_precision_score

from inference.results.report import Estimate

Words = np.ndarray  # (words of a text,)
RESAMPLES = 1000  # of the texts, for a standard error
FOUND = 0.5  # intersection over union


def average_precision(scores: Sequence[Words], truth: Sequence[Words]) -> np.ndarray:
    """(N,) the area under precision and recall of each text; nan where nothing is marked."""
    pairs = zip(scores, truth, strict=True)
    return np.array([average_precision_score(t, s) if t.any() else np.nan for s, t in pairs])


def word_f1(kept: Sequence[Words], truth: Sequence[Words]) -> np.ndarray:
    """(N,) 2 |kept ∩ truth| / (|kept| + |truth|); nan where nothing is marked."""
    pairs = [(k.astype(bool), t.astype(bool)) for k, t in zip(kept, truth, strict=True)]
    return np.array(
        [2 * (k & t).sum() / (k.sum() + t.sum()) if t.any() else np.nan for k, t in pairs]
    )


def span_f1(kept: Sequence[Words], truth: Sequence[Words]) -> np.ndarray:
    """(N,) F1 of spans found; nan where nothing is marked."""
    return np.array(
        [
            _span_f1(runs(k), runs(t)) if t.any() else np.nan
            for k, t in zip(kept, truth, strict=True)
        ]
    )


def _span_f1(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> float:
    found = sum(any(overlap(span, other) >= FOUND for other in theirs) for span in ours)
    if not found:
        return 0.0
    precision, recall = found / len(ours), found / len(theirs)
    return 2 * precision * recall / (precision + recall)


def overlap(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Intersection over union of two intervals [start, end)."""
    both = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return both / (a[1] - a[0] + b[1] - b[0] - both)


def runs(kept: Words) -> list[tuple[int, int]]:
    """[start, end) of each run of ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], kept.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def at_rate(scores: Words, sizes: Words, rate: float) -> np.ndarray:
    """(T,) bool: the units of largest score that come nearest to this share of the words.

    Args:
        scores, sizes: (T,) of each unit, its score and its number of words.
        rate: share of the words.
    """
    order = np.argsort(-scores, kind="stable")
    words = np.concatenate([[0], np.cumsum(sizes[order])])
    count = int(np.abs(words - rate * words[-1]).argmin())
    kept = np.zeros(len(scores), dtype=bool)
    kept[order[: max(count, 1)]] = True
    return kept


def mean(values: np.ndarray) -> Estimate:
    """Mean over texts with a value, and its standard error by resampling them."""
    there = values[~np.isnan(values)]
    if not len(there):
        return Estimate(float("nan"), float("nan"))
    rows = np.random.default_rng(0).integers(len(there), size=(RESAMPLES, len(there)))
    return Estimate(float(there.mean()), float(there[rows].mean(1).std(ddof=1)))


Trivial = Callable[[int, np.random.Generator], np.ndarray]
TRIVIAL: dict[str, Trivial] = {  # scores of T units without reading them
    "at random": lambda units, generator: generator.random(units),
    "the first": lambda units, generator: -np.arange(units, dtype=float),
    "the last": lambda units, generator: np.arange(units, dtype=float),
}
