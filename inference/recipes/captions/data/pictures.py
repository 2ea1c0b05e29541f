"""Pictures with captions, and the columns to learn from: one row a caption."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from PIL.Image import Image
from torch import Tensor

from inference.data.columns import Columns
from inference.data.readers.pictures import decode_picture, in_colour
from inference.data.vocabulary import END, Vocabulary, tokenize
from inference.util.errors import UserError
from inference.util.reading import reading

Split = Literal["train", "valid", "test"]
REMEDY = "replace it, or take it and its captions out of the set"
NOWHERE = -1  # location of a word that names no object


@dataclass(frozen=True)
class Picture:
    """One picture of a set.

    Args:
        name: unique in its set.
        split: ``train``, ``valid`` or ``test``.
        captions: at least one.
        read: gives the bytes of the encoded picture (jpg, png, ...).
        places: where known, for each caption and each of its ``tokens`` the grid location (row by
            row) of the object it names, or −1.
    """

    name: str
    split: Split
    captions: tuple[str, ...]
    read: Callable[[], bytes]
    places: tuple[tuple[int, ...], ...] = ()

    def open(self) -> Image:
        """The picture in RGB.

        Raises:
            UserError: it cannot be read or decoded.
        """
        return in_colour(decode_picture(self.name, self.content(), REMEDY))

    def content(self) -> bytes:
        """The bytes of the encoded picture.

        Raises:
            UserError: they cannot be read.
        """
        with reading(f"picture {self.name}", REMEDY):
            return self.read()


@dataclass(frozen=True)
class Captioned:
    """A set of captioned pictures; its order is that of features extracted from it."""

    name: str
    pictures: tuple[Picture, ...]

    def captions(self, split: Split) -> list[list[str]]:
        """The words of every caption of one split, in the order of ``columns``."""
        return [words for _, words, _ in self._rows(split)]

    def columns(self, split: Split, vocabulary: Vocabulary, longest: int = 50) -> Columns:
        """One row a caption: N of them, of T − 1 words at most.

        Returns:
            ``image`` (N,), the index of the caption's picture in ``pictures``; ``y`` (N, T), its
            words, then ``END``; and where places are known ``places`` (N, T), the grid location
            that each word names, or −1.  All of int64.

        Raises:
            UserError: no picture belongs to the split, or a caption has no word.
        """
        found = self._rows(split)
        if cut := sum(len(words) > longest for _, words, _ in found):
            warnings.warn(f"{cut} captions of {self.name} cut after {longest} words", stacklevel=2)
        images, words, places = zip(*found, strict=True)
        y = _padded([vocabulary.encode(w[:longest]) for w in words], END)
        tensors = {"image": torch.tensor(images), "y": y}
        if any(places):
            tensors["places"] = _padded([(*p[:longest], NOWHERE) for p in places], NOWHERE)
        return Columns(tensors)

    def _rows(self, split: Split) -> list[tuple[int, list[str], tuple[int, ...]]]:
        found = [row for row in self._by_caption if self.pictures[row[0]].split == split]
        if not found:
            raise UserError(f"{self.name} has no picture in its split {split!r}: give it some")
        for image, words, _ in found:
            if not words:
                raise UserError(
                    f"{self.name}: a caption of {self.pictures[image].name} has no word: "
                    "write one, or delete its line"
                )
        return found

    @cached_property
    def _by_caption(self) -> list[tuple[int, list[str], tuple[int, ...]]]:
        return [
            (i, tokenize(caption), picture.places[j] if picture.places else ())
            for i, picture in enumerate(self.pictures)
            for j, caption in enumerate(picture.captions)
        ]


def _padded(rows: Iterable[Sequence[int]], filler: int) -> Tensor:
    lists = [torch.tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(lists, batch_first=True, padding_value=filler)
