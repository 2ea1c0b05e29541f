"""Splits: what is missing is drawn by class, with a fixed seed, and said."""

from collections import Counter

import numpy as np
import pytest
from scipy.io import savemat

from inference import UserError
from inference.data.sources import load_splits
from inference.data.splits import last_rows, permutation

image = pytest.importorskip("PIL.Image")
CLASSES = np.repeat(np.arange(10), 50)


def pictures(folder, parts):
    """Folders of classes with pictures that differ; counts of each part."""
    for part, count in parts.items():
        for c in "0123456789":
            (folder / part / c).mkdir(parents=True)
            for i in range(count):
                shade = np.full((4, 4), 20 * int(c) + i, np.uint8)
                image.fromarray(shade).save(folder / part / c / f"{i}.png")


def counts(split):
    return Counter(split.tensors["label"].tolist())


@pytest.mark.parametrize("parts", [{"train": 20, "test": 5}, {"train": 20, "val": 5}, {"": 20}])
def test_a_drawn_split_of_class_folders_has_every_class(tmp_path, parts, capsys):
    pictures(tmp_path, parts)
    splits = load_splits(str(tmp_path))
    for split in (splits.train, splits.valid, splits.test):
        assert set(counts(split)) == set(range(10))
        assert max(counts(split).values()) - min(counts(split).values()) <= 1
    assert "drawn from its rows, by class, seed 0" in capsys.readouterr().err
    x = [part.tensors["x"] for part in (splits.train, splits.valid, splits.test)]
    if "" in parts:
        shades = Counter(round(float(v) * 255) for part in x for v in part[:, 0, 0, 0])
        assert sum(shades.values()) == 200
        assert max(shades.values()) == 1


def test_a_sorted_npz_is_drawn_by_class(tmp_path):
    x = np.arange(500, dtype=np.float32)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=CLASSES, x_test=x[::9], y_test=CLASSES[::9])
    splits = load_splits(str(tmp_path / "a.npz"))
    assert set(splits.valid.tensors["y"].tolist()) == set(range(10))
    assert not set(splits.valid.tensors["x"].tolist()) & set(splits.train.tensors["x"].tolist())
    again = load_splits(str(tmp_path / "a.npz"))
    assert splits.valid.tensors["x"].tolist() == again.valid.tensors["x"].tolist()


def test_any_stretch_of_the_permutation_has_its_share_of_each_class():
    order = permutation(500, CLASSES)
    assert sorted(order) == list(range(500))
    assert all(n == 5 for n in Counter(CLASSES[order[200:250]]).values())
    assert (permutation(500) == np.random.default_rng(0).permutation(500)).all()


def test_the_last_rows_are_held_out_only_if_they_hold_every_class(capsys):
    mixed = {"train": {"label": np.arange(120) % 3}, "test": {"label": np.arange(9) % 3}}
    assert last_rows("it", mixed)["valid"]["label"].tolist() == [2, 0, 1, 2, 0, 1, 2, 0, 1, 2][-10:]
    assert not capsys.readouterr().err
    of_one = {**mixed, "train": {"label": np.sort(mixed["train"]["label"])}}
    assert set(last_rows("it", of_one)["valid"]["label"].tolist()) == {0, 1, 2}
    assert "drawn from its rows, by class" in capsys.readouterr().err


def test_a_held_out_set_that_lacks_a_class_is_named(tmp_path, capsys):
    label = np.arange(60) % 3
    few = {"x_test": np.zeros(4), "y_test": np.array([0, 0, 1, 7])}
    np.savez(tmp_path / "a.npz", x_train=np.arange(60.0), y_train=label, **few)
    load_splits(str(tmp_path / "a.npz"))
    said = capsys.readouterr().err
    assert "its test split lacks the classes 2\n" in said
    assert "its train split lacks the classes 7\n" in said


@pytest.mark.parametrize("ending", ["npz", "mat"])
def test_train_val_and_test_are_splits(tmp_path, ending):
    """The layout of MedMNIST, and of Larochelle's .mat files."""
    x = np.random.default_rng(0).integers(0, 2, (30, 4, 4), np.uint8)
    label = (np.arange(30) % 2)[:, None]
    parts = {"train": x, "val": x[:6], "test": x[:8], "train_labels": label}
    parts |= {"val_labels": label[:6], "test_labels": label[:8]}
    save = np.savez if ending == "npz" else lambda path, **arrays: savemat(path, arrays)
    save(tmp_path / f"a.{ending}", **parts)
    splits = load_splits(str(tmp_path / f"a.{ending}"))
    assert [len(s) for s in (splits.train, splits.valid, splits.test)] == [30, 6, 8]
    assert splits.train.tensors.keys() == {"x", "label"}
    assert splits.test.tensors["x"].tolist() == x[:8, None].tolist()


def test_a_column_that_ends_like_a_split_is_a_column(tmp_path):
    (tmp_path / "a.csv").write_text("count,a,is_train\n" + "1,2,0\n3,5,1\n" * 10)
    assert load_splits(str(tmp_path / "a.csv")).train.names == ["count", "a", "is_train"]
    np.savez(tmp_path / "a.npz", count=np.ones(20), is_train=np.ones(20))
    assert load_splits(str(tmp_path / "a.npz")).train.names == ["count", "is_train"]


def test_too_few_rows_are_a_sentence(tmp_path):
    np.savez(tmp_path / "none.npz", x=np.ones((30, 0, 5)))
    with pytest.raises(UserError, match=r"'x' of shape \(30, 0, 5\) holds no number"):
        load_splits(str(tmp_path / "none.npz"))
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with pytest.raises(UserError, match="3 rows, too few to hold some out: give 10"):
        load_splits(str(tmp_path / "a.npz"))
