"""Word vectors as gensim's KeyedVectors, saved and loaded in word2vec's formats.

Files are text (.txt, .vec) or binary (.bin), each also gzipped (.txt.gz, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from inference.data.libraries import gensim_module
from inference.util.errors import UserError
from inference.util.files import replacing
from inference.util.reading import most_bytes, opened, opened_text, reading

if TYPE_CHECKING:  # optional dependency
    from gensim.models import KeyedVectors

VECTORS_FILE = "vectors.txt"  # in a run's directory
FOREIGN = "backslashreplace"  # bytes that are not UTF-8: in words of others' vectors
FORMATS = {".txt": False, ".vec": False, ".bin": True}  # ending → whether binary


def keyed_vectors(
    words: Sequence[str], vectors: Tensor | np.ndarray, counts: Tensor | None = None
) -> KeyedVectors:
    """KeyedVectors of V words from vectors (V, D) and counts (V,), the most frequent first.

    Raises:
        UserError: there are not as many vectors as words, a word holds a blank or is repeated, a
            vector is not finite, or gensim is not installed.
    """
    rows = torch.as_tensor(vectors).detach().cpu().float().numpy()
    if rows.ndim != 2 or len(rows) != len(words) or not len(words):
        raise UserError(f"{len(words)} words, but vectors of shape {rows.shape}: give one for each")
    seen: set[str] = set()
    for word, finite in zip(words, np.isfinite(rows).all(1), strict=True):
        if word in seen or not word or " " in word or "\n" in word:
            raise UserError(f"the word {word!r} is repeated or holds blanks: rename or delete it")
        if not finite:
            raise UserError(f"the vector of {word!r} is not finite: lower the learning rate")
        seen.add(word)
    found = gensim_module("gensim.models.keyedvectors").KeyedVectors(rows.shape[1])
    found.add_vectors(list(words), rows)
    often = range(len(words), 0, -1) if counts is None else counts.tolist()
    for word, count in zip(words, often, strict=True):
        found.set_vecattr(word, "count", count)
    return _with_norms(found)


def _with_norms(vectors: KeyedVectors) -> KeyedVectors:
    # in double precision: gensim's own squares overflow from 1e19 on, and vanish below 1e-23
    vectors.norms = np.linalg.norm(vectors.vectors.astype(np.float64), axis=1)
    vectors.norms[vectors.norms == 0] = 1.0  # a zero vector has cosine 0 to all others
    return vectors


def save_vectors(vectors: KeyedVectors, path: Path) -> None:
    """Write word2vec's text or binary format, by the file's ending; counts are not saved.

    Raises:
        UserError: the name has another ending, or the file cannot be written.
    """
    binary = _binary(path)
    with replacing(path) as beside:
        vectors.save_word2vec_format(str(beside), binary=binary)


def load_vectors(path: Path) -> KeyedVectors:
    """Vectors written by ``save_vectors``, word2vec, gensim or fastText.

    Args:
        path: a file, or the directory of a run, which holds ``vectors.txt``.

    Raises:
        UserError: it does not exist, is truncated, or has another format; names the line of a text.
    """
    if path.is_dir():
        path = path / VECTORS_FILE
    binary = _binary(path)
    if not path.is_file():
        raise UserError(
            f"no vectors {path}: give a run that learnt vectors of words, or a .txt, .vec or .bin "
            "file of word2vec's format"
        )
    return _load_binary(path) if binary else _load_text(path)


def _binary(path: Path) -> bool:
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if ending not in FORMATS:
        raise UserError(f"{path}: name vectors .txt, .vec (text) or .bin (binary), or these .gz")
    return FORMATS[ending]


def _sizes(line: str, path: Path) -> tuple[int, int]:
    """The numbers of words and of a vector's entries in the first line."""
    sizes = line.split()
    if len(sizes) != 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise UserError(
            f"{path}, line 1: word2vec's format begins with the numbers of words and of a vector's "
            f"entries, not with {line[:40]!r}: put them there"
        )
    return int(sizes[0]), int(sizes[1])


def _load_text(path: Path) -> KeyedVectors:
    places: dict[str, int] = {}
    rows: list[np.ndarray] = []
    with opened_text(path, FOREIGN) as file:
        count, width = _sizes(file.readline(), path)
        for line, content in enumerate(file, 2):
            word, row = _row(content, width, f"{path}, line {line}")
            if word in places:
                first = places[word]
                raise UserError(f"{path}, line {line}: {word!r} is in line {first}, too: drop one")
            places[word] = line
            rows.append(row)
    if len(rows) != count:
        raise UserError(
            f"{path} holds {len(rows)} vectors, but line 1 says {count}: it was cut short; write "
            "it again"
        )
    return keyed_vectors(list(places), np.stack(rows))


def _row(content: str, width: int, where: str) -> tuple[str, np.ndarray]:
    """A word and its vector (width,)."""
    word, *entries = content.rstrip().split(" ")
    if len(entries) != width:
        raise UserError(
            f"{where}: {len(entries)} numbers after {word!r}, but line 1 says {width}: correct it"
        )
    try:
        row = np.array(entries, np.float32)
    except ValueError as error:
        raise UserError(f"{where}: {error}: give {width} numbers after {word!r}") from None
    if not np.isfinite(row).all():
        raise UserError(f"{where}: the vector of {word!r} is not finite: delete the line")
    return word, row


def _load_binary(path: Path) -> KeyedVectors:
    with opened(path) as raw:
        count, width = _sizes(raw.readline(100).decode("utf-8", "replace"), path)
    if most_bytes(path) < 4 * count * width:
        raise UserError(
            f"{path} is cut short: {count} vectors of {width} do not fit; write it again"
        )
    keyed = gensim_module("gensim.models.keyedvectors").KeyedVectors
    with reading(path, "write it again"):
        found = keyed.load_word2vec_format(str(path), binary=True, unicode_errors=FOREIGN)
    if (words := len(found.key_to_index)) != count:
        raise UserError(
            f"{path} holds {words} different words, but says {count}: some are repeated; write it "
            "again"
        )
    if not np.isfinite(found.vectors).all():
        raise UserError(f"{path} holds vectors that are not finite: write it again")
    return _with_norms(found)
