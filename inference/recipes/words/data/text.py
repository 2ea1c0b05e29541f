"""A text as word numbers, in three parts, and as columns that are views of it.

==================  ===========================  ==================================================
name                files                        split
==================  ===========================  ==================================================
``ptb``             ptb.{train,valid,test}.txt   Mikolov's: 929,589 / 73,760 / 82,430 words
a folder            {train,valid,test}.txt       the files'
a file              any text                     its first 80 %, next 10 % and last 10 % of lines
==================  ===========================  ==================================================

Files may be gzipped.  Words are separated by blanks; each line ends with ``<end>``, and ``<unk>``
is the unknown word.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

from inference.data.columns import Columns
from inference.data.letters import composed
from inference.data.libraries import find_folder
from inference.data.vocabulary import Vocabulary
from inference.util.errors import UserError
from inference.util.reading import opened_text

UNKNOWN_MARK = "<unk>"
PARTS = ("train", "valid", "test")
MAX_LINE = 1 << 20  # characters


@dataclass(frozen=True)
class Text:
    """Three texts, (tokens,) int32 each, and their vocabulary."""

    train: Tensor
    valid: Tensor
    test: Tensor
    vocabulary: Vocabulary

    def counts(self) -> Tensor:
        """(V,) one more than each word's count in train, so that none is 0."""
        return 1.0 + self.train.bincount(minlength=len(self.vocabulary))


def load_text(source: str, minimum: int = 1) -> Text:
    """The text of this name, folder or file; words rarer than ``minimum`` in train are unknown.

    Raises:
        UserError: it does not exist, is no text, or one of its parts holds no word.
    """
    parts = part_files(source)
    vocabulary = Vocabulary.from_texts(
        map(known_words, split_words(part_lines(*parts["train"]))), minimum
    )
    texts = {
        name: token_numbers(split_words(part_lines(*part)), vocabulary)
        for name, part in parts.items()
    }
    for name, text in texts.items():
        if len(text) < 2:
            raise UserError(f"{source}: the part {name!r} holds no words: give a longer text")
    return Text(**texts, vocabulary=vocabulary)


def part_files(source: str) -> dict[str, tuple[Path, float, float]]:
    """Part → its file, and the range of its lines, as fractions of all."""
    if source != "ptb" and Path(source).is_file():
        cuts = (0.0, 0.8, 0.9, 1.0)
        return {name: (Path(source), cuts[i], cuts[i + 1]) for i, name in enumerate(PARTS)}
    folder = find_folder("ptb") if source == "ptb" else Path(source)
    if not folder.is_dir():
        wanted = ", ".join(f"{name}.txt" for name in PARTS)
        raise UserError(f"no text {source!r}: give ptb, a file, or a folder of {wanted}")
    prefix = "ptb." if source == "ptb" else ""
    return {name: (_file(folder, f"{prefix}{name}.txt"), 0.0, 1.0) for name in PARTS}


def part_lines(path: Path, begin: float, end: float) -> Iterator[str]:
    """The lines of a file in a range of fractions, read lazily.

    Raises:
        UserError: it cannot be read as text.
    """
    with opened_text(path) as file:
        count = sum(1 for _ in text_lines(file, path))
    with opened_text(path) as file:
        lines = text_lines(file, path)
        yield from itertools.islice(lines, round(begin * count), round(end * count))


def text_lines(file: TextIO, path: Path) -> Iterator[str]:
    """The lines of a text.

    Raises:
        UserError: one has more than a million characters, or the file is binary.
    """
    while line := file.readline(MAX_LINE):
        if "\0" in line:
            raise UserError(f"{path} is a binary file: give a text")
        if len(line) == MAX_LINE:
            raise UserError(f"{path} has a line of {MAX_LINE} characters: break it into lines")
        yield composed(line)


def split_words(part: Iterable[str]) -> Iterator[list[str]]:
    """The words of each line, split at blanks."""
    return (line.split() for line in part)


def known_words(line: list[str]) -> list[str]:
    """The words without ``<unk>``."""
    return [word for word in line if word != UNKNOWN_MARK]


def token_numbers(part: Iterable[list[str]], vocabulary: Vocabulary) -> Tensor:
    """(tokens,) int32, an END after each line."""
    found = array("i")
    for line in part:
        found.extend(vocabulary.encode(line))
    return torch.from_numpy(np.array(found, dtype=np.int32))


def continuations(text: Tensor, length: int) -> Columns:
    """Each word w (N,) after the ``length`` words before it, c (N, length): windows into the text.

    The first ``length`` words of the text are context only.

    Raises:
        UserError: the text is shorter than that.
    """
    windows = _windows(text, length + 1, step=1)
    return Columns({"c": windows[:, :-1], "w": windows[:, -1]})


def sequences(text: Tensor, length: int) -> Columns:
    """The text cut into rows of w (N, length), and c, the words one position before: for an LSTM.

    An incomplete row at the end is dropped.

    Raises:
        UserError: the text is shorter than a row.
    """
    windows = _windows(text, length + 1, step=length)
    return Columns({"c": windows[:, :-1], "w": windows[:, 1:]})


def _windows(text: Tensor, size: int, step: int) -> Tensor:
    if len(text) < size:
        raise UserError(
            f"a part of the text has {len(text)} words, fewer than {size}: shorten rows"
        )
    return text.unfold(0, size, step)


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"{folder} has no file {name} (or {name}.gz): put it there")
