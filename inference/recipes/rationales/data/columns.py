"""Documents as columns of numbers: words in units, labels, and people's marks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from inference.data.columns import Columns
from inference.data.vocabulary import Vocabulary
from inference.recipes.rationales.data.documents import Document, units

SHARE_SEED = 0  # which documents' marks are shown


def columns(
    documents: Sequence[Document],
    vocabulary: Vocabulary,
    labels: Sequence[str],
    longest: int,
    marked: float | None = None,
) -> Columns:
    """x (N, T, W) word numbers, 0 for padding; y (N,); unless ``marked`` is None, marks and marked.

    Args:
        documents: N texts.
        vocabulary: of the words.
        labels: in the order of their numbers.
        longest: W, words in a unit.
        marked: share of the texts whose marks are shown: marks (N, T) of units of which at least
            half is marked, and marked (N,), which texts.
    """
    x = words_of(documents, vocabulary, longest)
    y = torch.tensor([labels.index(document.label) for document in documents])
    lengths = (x > 0).any(-1).sum(-1)
    if marked is None:
        return Columns({"x": x, "y": y}, lengths={"x": lengths})
    order = np.random.default_rng(SHARE_SEED).permutation(len(documents))
    shown = torch.zeros(len(documents), dtype=torch.bool)
    known = [i for i in order if documents[i].spans is not None]
    shown[torch.from_numpy(np.array(known[: round(marked * len(documents))], dtype=int))] = True
    marks = torch.zeros(x.shape[:2])
    for row, document in zip(marks, documents, strict=True):
        share = unit_shares(document, document.marks(), longest)
        row[: len(share)] = torch.from_numpy(share >= 0.5)
    tensors = {"x": x, "y": y, "marks": marks, "marked": shown}
    return Columns(tensors, lengths={"x": lengths, "marks": lengths})


def words_of(documents: Sequence[Document], vocabulary: Vocabulary, longest: int) -> Tensor:
    """(N, T, W) int32 word numbers in units, 0 for padding."""
    parts = [units(document, longest) for document in documents]
    tall = max(map(len, parts))
    wide = max(len(part.words) for some in parts for part in some)
    x = np.zeros((len(documents), tall, wide), dtype=np.int32)
    for i, some in enumerate(parts):
        for t, part in enumerate(some):
            x[i, t, : len(part.words)] = vocabulary.encode(part.words)[:-1]
    return torch.from_numpy(x)


def unit_shares(document: Document, marks: np.ndarray, longest: int) -> np.ndarray:
    """(T,) the mean of a document's marks (words,) in each of its units."""
    parts = units(document, longest)
    return np.array([marks[p.start : p.start + len(p.words)].mean() for p in parts])


def over_words(document: Document, values: np.ndarray, longest: int) -> np.ndarray:
    """(words,) values (T,) of a document's units, given to each of their words."""
    parts = units(document, longest)
    return np.repeat(values[: len(parts)], [len(part.words) for part in parts])
