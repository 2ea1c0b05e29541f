"""The published files of house numbers, a small one made here."""

import numpy as np
import pytest
import torch
from scipy.io import savemat

from inference import UserError
from inference.recipes.glimpses.data.house_numbers import house_numbers

X = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 24), dtype=np.uint8)
Y = (np.arange(24) % 10 + 1).astype(np.uint8)[:, None]


def test_images_and_labels(tmp_path):
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": X, "y": Y})
    splits = house_numbers(tmp_path)
    assert [len(s) for s in (splits.train, splits.valid, splits.test)] == [22, 2, 24]
    x, label = splits.test.tensors["x"], splits.test.tensors["label"]
    assert torch.equal((x[5] * 255).round().byte(), torch.from_numpy(X[..., 5].transpose(2, 0, 1)))
    assert label.tolist()[:10] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"no .*train_32x32\.mat"):
        house_numbers(tmp_path)
    (tmp_path / "train_32x32.mat").write_text("no mat file")
    with pytest.raises(UserError, match=r"cannot be read .*as they are published"):
        house_numbers(tmp_path)
    savemat(tmp_path / "train_32x32.mat", {"X": X[..., :5], "y": Y})
    with pytest.raises(UserError, match="24 labels"):
        house_numbers(tmp_path)
