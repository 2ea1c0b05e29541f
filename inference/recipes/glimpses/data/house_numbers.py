"""Street View House Numbers as published: ``train_32x32.mat`` and ``test_32x32.mat``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from inference.data.columns import Columns
from inference.data.sources import Splits
from inference.util.errors import UserError


def house_numbers(folder: Path) -> Splits:
    """Columns x (N, 3, 32, 32) in [0, 1] and label; the last twelfth of the training is ``valid``.

    Raises:
        UserError: a file is missing, or is none of Netzer et al. 2011.
    """
    train, test = (read(folder / f"{part}_32x32.mat") for part in ("train", "test"))
    cut = len(train) - len(train) // 12
    return Splits(
        Columns({name: column[:cut] for name, column in train.tensors.items()}),
        Columns({name: column[cut:] for name, column in train.tensors.items()}),
        test,
    )


def read(path: Path) -> Columns:
    """Arrays X (32, 32, 3, N) of bytes and y (N, 1) of 1 … 10, where 10 stands for the digit 0."""
    if not path.exists():
        raise UserError(f"no {path}: put train_32x32.mat and test_32x32.mat there")
    try:
        found = loadmat(path)
        x, y = found["X"], found["y"]
    except (KeyError, ValueError, TypeError, MatReadError) as error:
        raise UserError(f"{path} holds no arrays X and y of house numbers: {error}") from None
    if x.ndim != 4 or x.shape[2] != 3 or y.size != x.shape[3]:
        raise UserError(
            f"{path}: X of shape {x.shape} and y of {y.size} labels; house numbers have "
            "(32, 32, 3, N) and N"
        )
    images = torch.from_numpy(np.ascontiguousarray(x.transpose(3, 2, 0, 1))).float() / 255
    return Columns({"x": images, "label": torch.from_numpy(y.reshape(-1).astype(np.int64) % 10)})
