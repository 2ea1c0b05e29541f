"""Labels of few images: balanced, the same at every call, and counted once."""

import pytest
import torch

from inference import UserError
from inference.data.columns import Columns
from inference.recipes.labelled_images.data.columns import (
    balanced,
    labelled,
    labelled_alone,
    load_images,
    semi_supervised,
)
from ppl_models.label_heads import NO_LABEL

Y = torch.arange(200) % 10
TRAIN = Columns({"x": torch.arange(200.0)[:, None, None, None], "y": Y})


def test_labels_are_balanced_and_of_their_seed():
    chosen = balanced(Y, 25, 10, seed=3)
    counts = torch.bincount(Y[chosen])
    assert counts.tolist() == [3] * 5 + [2] * 5
    assert len(set(chosen.tolist())) == 25
    assert torch.equal(chosen, balanced(Y, 25, 10, seed=3))
    assert not torch.equal(chosen, balanced(Y, 25, 10, seed=4))


def test_a_labelled_row_counts_once_however_often_it_is_shown():
    rows = semi_supervised(TRAIN, 10, 10, seed=0).tensors
    known = rows["y"] != NO_LABEL
    assert int(known.sum()) == 20  # a tenth of the rows
    per_image = torch.zeros(200).index_add(0, rows["x"].flatten().long(), rows["share"])
    torch.testing.assert_close(per_image, per_image[:1].expand(200))  # the same for every image
    torch.testing.assert_close(rows["share"].mean(), torch.tensor(1.0))
    at = rows["x"].flatten().long()
    assert torch.equal(rows["y"][known], Y[at[known]])


def test_all_labels_and_those_alone():
    assert torch.equal(semi_supervised(TRAIN, None, 10, 0).tensors["y"], Y)
    alone = labelled_alone(TRAIN, 10, 10, seed=0).tensors
    assert sorted(alone["y"].tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (9, "--labels is 9 for 10 classes"),
        (190, "class 0 has 2 training images, and --labels 190 needs 19"),
    ],
)
def test_too_few_of_a_class(labels, words):
    y = torch.cat([Y[:2] * 0, Y[Y != 0]])
    with pytest.raises(UserError, match=words):
        balanced(y, labels, 10, seed=0)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": torch.zeros(3, dtype=torch.long)}, "no column 'x' of images"),
        ({"x": torch.zeros(3, 1, 8, 8)}, "no column 'label' of whole numbers"),
        ({"x": torch.zeros(3, 1, 8, 8), "label": torch.zeros(3)}, "no column 'label'"),
        ({"x": torch.zeros(3, 1, 8, 8), "label": torch.tensor([0, -1, 1])}, "a label is -1"),
    ],
)
def test_no_labelled_images(columns, words):
    with pytest.raises(UserError, match=words):
        labelled(Columns(columns))


def test_a_class_of_the_test_images_alone(tmp_path):
    import numpy as np

    arrays = {}
    for part, classes in (("train", 3), ("valid", 3), ("test", 4)):
        arrays[f"x_{part}"] = np.zeros((12, 8, 8), np.uint8)
        arrays[f"label_{part}"] = np.arange(12) % classes
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(UserError, match="class 3 is among the test labels"):
        load_images(str(tmp_path / "images.npz"))
