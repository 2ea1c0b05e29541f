"""A two-dimensional map of word vectors, by t-SNE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.manifold import TSNE

from inference.engine.training.validation import EVALUATION_SEED
from inference.results import plots
from inference.util.errors import UserError

if TYPE_CHECKING:  # optional dependency
    from gensim.models import KeyedVectors

FEWEST, SHORTEST = 5, 3  # words on a map, letters of a word
SIDES = (  # of a label: offset in points, alignment
    (3, 1, "left", "bottom"),
    (-3, 1, "right", "bottom"),
    (3, -1, "left", "top"),
    (-3, -1, "right", "top"),
    (0, 4, "center", "bottom"),
    (0, -4, "center", "top"),
)


def content_words(vectors: KeyedVectors, count: int) -> list[str]:
    """The most frequent words of at least three letters that are not scikit-learn's stop words."""
    words = (
        word
        for word in vectors.index_to_key
        if len(word) >= SHORTEST and word.isalpha() and word.lower() not in ENGLISH_STOP_WORDS
    )
    return [word for word, _ in zip(words, range(count), strict=False)]


def enough(vectors: KeyedVectors) -> bool:
    """Whether there are enough content words for a map."""
    return len(content_words(vectors, FEWEST)) == FEWEST


def tsne_positions(vectors: KeyedVectors, words: list[str]) -> np.ndarray:
    """(n, 2) by t-SNE of the cosine distances between n words, with a fixed seed."""
    tsne = TSNE(
        metric="cosine",
        perplexity=min(10.0, (len(words) - 1) / 3),
        init="random",
        random_state=EVALUATION_SEED,
    )
    return tsne.fit_transform(vectors[words])


def plot_map(vectors: KeyedVectors, path: Path, count: int = 150) -> None:
    """A map of the ``count`` most frequent content words, a PNG.

    Raises:
        UserError: there are fewer than five such words, or the file cannot be written.
    """
    words = content_words(vectors, count)
    if len(words) < FEWEST:
        raise UserError(f"a map needs {FEWEST} content words, not {len(words)}: add words")
    figure = Figure(figsize=(12, 8))
    axis = figure.add_axes((0.03, 0.01, 0.94, 0.94))
    axis.set_axis_off()
    axis.set_title(f"the {len(words)} most frequent content words, t-SNE of cosine distances")
    label_points(axis, words, tsne_positions(vectors, words))
    plots.save(figure, path)


def label_points(axis: Axes, words: list[str], at: np.ndarray) -> None:
    """Plot a point for each word, and its label at the side where it covers the least."""
    axis.scatter(at[:, 0], at[:, 1], s=6, color="tab:blue")
    axis.autoscale_view()
    centres = axis.transData.transform(at)
    taken = np.concatenate([centres - 3, centres + 3], 1)  # (n, 4) pixels: left, bottom, right, top
    for word, place in zip(words, at, strict=True):
        texts = [
            axis.annotate(word, place, (x, y), textcoords="offset points", ha=ha, va=va, fontsize=9)
            for x, y, ha, va in SIDES
        ]
        boxes = np.array([text.get_window_extent().extents for text in texts])
        best = int(hidden_area(boxes, taken).argmin())
        taken = np.concatenate([taken, boxes[best : best + 1]])
        for text in texts[:best] + texts[best + 1 :]:
            text.remove()


def hidden_area(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(m,) the area of each of m boxes (m, 4) that overlaps n others (n, 4), square pixels."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    return (high - low).clip(0).prod(-1).sum(-1)
