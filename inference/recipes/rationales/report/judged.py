"""Texts beside what trained rationales keep of them and say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from inference.recipes.rationales.data.columns import over_words
from inference.recipes.rationales.data.documents import Document, units
from inference.recipes.rationales.report import scores
from inference.recipes.rationales.report.predictions import Answer


class Judged(NamedTuple):
    """Documents with what a model keeps of them and says of them."""

    documents: Sequence[Document]
    longest: int  # words of a unit
    y: Tensor
    answer: Answer

    def scores(self) -> list[np.ndarray]:
        """(words,) of each document."""
        rows = self.answer.scores.double().cpu().numpy()
        pairs = zip(self.documents, rows, strict=True)
        return [over_words(document, row, self.longest) for document, row in pairs]

    def kept(self, rate: float, by: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """(N, T) masks of this rate of words, by our scores of units, or by others."""
        rows = self.answer.scores.double().cpu().numpy() if by is None else by
        masks = np.zeros(self.answer.scores.shape, dtype=bool)
        for mask, document, row in zip(masks, self.documents, rows, strict=True):
            sizes = np.array([len(part.words) for part in units(document, self.longest)])
            mask[: len(sizes)] = scores.at_rate(row[: len(sizes)], sizes, rate)
        return masks

    def over_words(self, masks: np.ndarray) -> list[np.ndarray]:
        """(words,) masks of each document, from those of its units (N, T)."""
        pairs = zip(self.documents, masks, strict=True)
        return [over_words(document, mask, self.longest) for document, mask in pairs]

    def truth(self) -> list[np.ndarray]:
        """(words,) people's marks of each document."""
        return [document.marks() for document in self.documents]
