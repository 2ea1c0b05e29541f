"""Labelled texts, perhaps with the spans that people marked.

===========  ====================================  ================================================
name         what                                  split
===========  ====================================  ================================================
``planted``  made-up texts whose rationale is      400 / 100 / 200, see ``planted``
             known
``movies``   ERASER Movies (Zaidan et al. 2007,    1,600 / 200 / 199, the benchmark's
             DeYoung et al. 2020)
``rt``       Rotten Tomatoes sentences (Pang &     80 / 10 / 10 %, a fixed permutation
             Lee 2005)
a folder     {train,val,test}.jsonl[.gz]           the files'
a file       .jsonl[.gz] of that form, or .csv     80 / 10 / 10 %, a fixed permutation
             with columns text and label
===========  ====================================  ================================================

A line of jsonl holds ``sentences`` (words with blanks between them), ``label``, and perhaps ``id``
and ``rationale_token_spans``, [[start, end), …] over the words of all sentences.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inference.data.letters import SIGN, composed
from inference.data.libraries import find_folder
from inference.data.splits import permutation
from inference.recipes.rationales.data.planted import planted
from inference.util.errors import UserError
from inference.util.reading import contents, reading, text_of
from inference.util.terminal import note

PARTS = ("train", "val", "test")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
WORD = re.compile(rf"{SIGN}+(?:['’-]{SIGN}+)*|[^\w\s]+")


@dataclass(frozen=True)
class Document:
    """A text.

    Attributes:
        name: for messages and pages.
        sentences: the words of each.
        label: what is to be predicted.
        spans: [start, end) over all words, marked by people; None where nobody looked.
    """

    name: str
    sentences: Sequence[Sequence[str]]
    label: str
    spans: Sequence[tuple[int, int]] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.sentences))

    def marks(self) -> np.ndarray:
        """(words,) bool, True inside a span."""
        marks = np.zeros(len(self), dtype=bool)
        for start, end in self.spans or ():
            marks[start:end] = True
        return marks


@dataclass(frozen=True)
class Texts:
    """Three sets of documents, and their labels in order."""

    train: Sequence[Document]
    valid: Sequence[Document]
    test: Sequence[Document]
    labels: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        found = sorted({document.label for document in self.train})
        if len(found) < 2:
            raise UserError(
                f"all training texts have the label {found}: give texts of two kinds or more"
            )
        for document in (*self.valid, *self.test):
            if document.label not in found:
                raise UserError(
                    f"{document.name} has the label {document.label!r}, which no training text "
                    f"has: give one of {', '.join(found)}"
                )
        for name, part in (("validation", self.valid), ("test", self.test)):
            if lacking := set(found) - {document.label for document in part}:
                note(f"no {name} text has the label {', '.join(sorted(lacking))}")
        object.__setattr__(self, "labels", found)


def load_texts(source: str, limit: int) -> Texts:
    """The texts of this name, folder or file.

    Args:
        source: see above.
        limit: words that a text may have.

    Raises:
        UserError: they cannot be read, or a text is empty, too long, marked beyond its end, or of
            a label that no training text has.
    """
    texts = read_texts(source)
    for document in (*texts.train, *texts.valid, *texts.test):
        refuse_unusable(document, limit)
    return texts


def read_texts(source: str) -> Texts:
    """As ``load_texts``, unchecked."""
    if source == "planted":
        return Texts(*(list(map(document, part)) for part in planted()))
    if source == "movies":
        return folder(find_folder("movie_rationales"))
    if source == "rt":
        return split(list(rotten_tomatoes(find_folder("rt_polarity"))))
    path = Path(source)
    if path.is_dir():
        return folder(path)
    if not path.exists():
        raise UserError(
            f"no texts {source!r}: give planted, movies, rt, or the path of a folder, a .jsonl or "
            "a .csv file"
        )
    return split(list(table(path) if path.suffix == ".csv" else lines(path)))


def refuse_unusable(document: Document, limit: int) -> None:
    """Raise a ``UserError`` for a text that cannot be used."""
    words = len(document)
    if not words:
        raise UserError(f"{document.name} has no words: remove it")
    if words > limit:
        raise UserError(
            f"{document.name} has {words} words, more than --limit {limit}: shorten it, or give a "
            "larger limit"
        )
    for start, end in document.spans or ():
        if not 0 <= start <= end <= words:
            raise UserError(
                f"{document.name}: the span [{start}, {end}) leaves its {words} words: spans count "
                "the words of all sentences from 0, their end excluded"
            )


def split(documents: Sequence[Document]) -> Texts:
    """80, 10 and 10 % of a fixed permutation."""
    if len(documents) < 10:
        raise UserError(f"there are {len(documents)} texts: give 10 or more")
    _, classes = np.unique([document.label for document in documents], return_inverse=True)
    cuts = [int(0.8 * len(documents)), int(0.9 * len(documents))]
    parts = np.split(permutation(len(documents)), cuts)
    if len(set(classes[parts[0]])) < classes.max() + 1:  # a rare label, not among those to train on
        parts = np.split(permutation(len(documents), classes), cuts)
    return Texts(*([documents[i] for i in part] for part in parts))


def folder(path: Path) -> Texts:
    """{train,val,test}.jsonl, perhaps gzipped."""
    parts = []
    for part in PARTS:
        files = [path / f"{part}.jsonl{ending}" for ending in ("", ".gz")]
        there = [file for file in files if file.exists()]
        if not there:
            raise UserError(f"{path} has no {part}.jsonl or {part}.jsonl.gz")
        parts.append(list(lines(there[0])))
    return Texts(*parts)


def lines(path: Path) -> Iterator[Document]:
    """The documents of a .jsonl file."""
    for number, line in enumerate(lines_of(path), 1):
        where = f"{path}, line {number},"
        with reading(where, "it needs 'sentences' (a list of texts) and 'label'"):
            if line.strip():
                yield document({"id": f"{path.name}, line {number}", **json.loads(line)})


def document(row: Mapping[str, Any]) -> Document:
    """A line of jsonl."""
    if not isinstance(row["sentences"], list):
        raise TypeError("'sentences' is no list")
    sentences = [
        [composed(word) or word for word in sentence.split()] for sentence in row["sentences"]
    ]
    spans = row.get("rationale_token_spans")
    marked = None if spans is None else [(int(start), int(end)) for start, end in spans]
    if row["label"] is None:
        raise ValueError("its label is null")
    return Document(str(row["id"]), sentences, str(row["label"]), marked)


def table(path: Path) -> Iterator[Document]:
    """The documents of a .csv file with columns text and label."""
    with reading(path):
        rows = csv.DictReader(lines_of(path))
        names = {name.strip().lower(): name for name in rows.fieldnames or ()}
    if missing := {"text", "label"} - names.keys():
        raise UserError(f"{path} has no column {', '.join(sorted(missing))}: give text and label")
    with reading(path):
        for row in rows:
            text, label = row[names["text"]], row[names["label"]]
            if not text or not label or None in row:
                raise UserError(f"{path}, line {rows.line_num} is not text,label: correct it")
            yield Document(f"{path.name}, line {rows.line_num}", sentences_of(text), label.strip())


def rotten_tomatoes(path: Path) -> Iterator[Document]:
    """Sentences of one text each, POS and NEG."""
    for label in ("pos", "neg"):
        file = path / f"rt-polarity.{label}.gz"
        for number, line in enumerate(contents(file).decode("latin-1").split("\n"), 1):
            if words := line.split():
                yield Document(f"{file.name}, line {number}", [words], label.upper())


def sentences_of(text: str) -> list[list[str]]:
    """A running text as lower-case words and marks of punctuation, sentence by sentence."""
    parts = SENTENCE_END.split(composed(text.strip().lower()))
    return [words for part in parts if (words := WORD.findall(part))]


def lines_of(path: Path) -> Iterable[str]:
    """The lines of a file, gzipped or not; U+2028 and the like end none."""
    return io.StringIO(text_of(path))


class Part(NamedTuple):
    """Words of one unit: a piece of a sentence."""

    start: int  # among the words of the text
    words: Sequence[str]


def units(document: Document, longest: int) -> list[Part]:
    """The text's sentences, in pieces of at most ``longest`` words; 1 for single words."""
    parts, start = [], 0
    for sentence in document.sentences:
        for i in range(0, len(sentence), longest):
            parts.append(Part(start + i, sentence[i : i + longest]))
        start += len(sentence)
    return parts
