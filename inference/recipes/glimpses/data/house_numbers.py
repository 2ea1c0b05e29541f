"""Street View House Numbers as published: ``train_32x32.mat`` and ``test_32x32.mat``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inference.data.readers.arrays import read_mat
from inference.data.splits import Splits, last_rows, splits_of
from inference.data.values import Arrays
from inference.util.errors import UserError
from inference.util.reading import reading, regular


def house_numbers(folder: Path) -> Splits:
    """Columns x (N, 3, 32, 32) in [0, 1] and label; the last twelfth of the training is ``valid``.

    Raises:
        UserError: a file is missing, or is none of Netzer et al. 2011.
    """
    parts = {part: read(folder / f"{part}_32x32.mat") for part in ("train", "test")}
    return splits_of(str(folder), last_rows(str(folder), parts), (0, 255))


def read(path: Path) -> Arrays:
    """Arrays X (32, 32, 3, N) of bytes and y (N, 1) of 1 … 10, where 10 stands for the digit 0."""
    if not path.exists():
        raise UserError(f"no {path}: put train_32x32.mat and test_32x32.mat there")
    with reading(path, "give the files of house numbers as they are published"):
        found = read_mat(regular(path))
    if not {"X", "y"} <= found.keys():
        raise UserError(f"{path} holds no arrays X and y of house numbers: fetch it again")
    x, y = found["X"], found["y"]
    if x.ndim != 4 or x.shape[2] != 3 or y.size != x.shape[3]:
        raise UserError(
            f"{path}: X of shape {x.shape} and y of {y.size} labels; house numbers have "
            "(32, 32, 3, N) and N"
        )
    images = np.ascontiguousarray(x.transpose(3, 2, 0, 1))
    return {"x": images, "label": y.reshape(-1).astype(np.int64) % 10}
