"""LeCun's idx files of bytes: two zeros, the type, the number of dims, the dims, the data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from inference.data.splits import Parts, last_rows
from inference.util.errors import UserError
from inference.util.reading import most_bytes, opened

BYTES = b"\x00\x00\x08"


def idx_files(folder: Path) -> list[Path]:
    """The idx files of a folder."""
    return sorted(f for f in folder.iterdir() if "-idx" in f.name and not f.name.startswith("."))


def idx_parts(folder: Path) -> Parts:
    """Split → x and label, of the four files; the last twelfth of the training files is "valid".

    Raises:
        UserError: a file is missing or cannot be read.
    """
    files = idx_files(folder)
    parts: dict[str, dict[str, np.ndarray]] = {"train": {}, "test": {}}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        for kind, column in (("images", "x"), ("labels", "label")):
            found = [f for f in files if f.name.startswith(f"{prefix}-{kind}")]
            if not found:
                raise UserError(f"{folder} has no file {prefix}-{kind}-idx…-ubyte")
            parts[part][column] = read_idx(found[0])
    return last_rows(str(folder), parts)


def read_idx(path: Path) -> np.ndarray:
    """One file, gzipped or not.

    Raises:
        UserError: it is no such file, or cut short.
    """
    with opened(path) as file:
        head = file.read(4)
        if head[:3] != BYTES or len(head) < 4:
            raise UserError(f"{path} is not an idx file of unsigned bytes")
        raw = file.read(4 * head[3])
        dims = tuple(map(int, np.frombuffer(raw[: len(raw) // 4 * 4], ">u4")))
        size = math.prod(dims)
        there = 0 if size > most_bytes(path) else len(data := file.read(size + 1))
    if len(dims) != head[3] or not dims or there != size:
        raise UserError(f"{path} is cut short or damaged: its header says {dims} bytes")
    return np.frombuffer(data, np.uint8).reshape(dims)
