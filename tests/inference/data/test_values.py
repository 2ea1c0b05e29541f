"""What numbers mean: the scale of images is found from their values and said, never guessed."""

import numpy as np
import pytest
import torch

from inference import UserError
from inference.data.sources import load_splits
from inference.data.values import class_numbers, images, labelled_images, tensors, value_range

RNG = np.random.default_rng(0)
BINARY = RNG.integers(0, 2, (40, 6, 5))
GREY = RNG.integers(0, 256, (40, 6, 5))
GREY[0, 0, 0] = 255


@pytest.mark.parametrize(
    ("values", "expected", "said"),
    [
        (BINARY.astype(np.uint8), BINARY, ""),
        (BINARY.astype(bool), BINARY, ""),
        (BINARY.astype(np.int64), BINARY, ""),
        (2 * BINARY.astype(np.int8) - 1, BINARY, "-1 is taken for black, 1 for white"),
        (2.0 * BINARY - 1, BINARY, "-1 is taken for black, 1 for white"),
        (255 * BINARY.astype(np.uint8), BINARY, "0 is taken for black, 255 for white"),
        (GREY.astype(np.uint8), GREY / 255, "255 for white"),
        (GREY.astype(np.float64), GREY / 255, "255 for white"),
        (GREY.astype(">i4"), GREY / 255, "255 for white"),
        (GREY.astype(np.uint16) * 257, GREY / 255, "65535 for white"),
        (GREY / 255, GREY / 255, ""),
        (GREY / 100 - 1, GREY / 100 - 1, ""),  # floats in no known range are left alone
    ],
)
def test_images_are_scaled_by_what_their_values_are(values, expected, said, capsys):
    (x,) = tensors("x", [values])
    assert x.shape == (40, 1, 6, 5)
    np.testing.assert_allclose(x[:, 0], expected, rtol=1e-6)
    assert said in capsys.readouterr().err
    assert bool(said) == (value_range("x", [values]) != (0, 1))


@pytest.mark.parametrize(
    "values", [(GREY // 16).astype(np.uint8), (GREY - 128).astype(np.int8), GREY * 16]
)
def test_whole_numbers_in_no_known_range_are_asked_about(values):
    with pytest.raises(UserError, match=r"say which are black and white, --range -?\d+ \d+"):
        tensors("x", [values])
    low, high = int(values.min()), int(values.max())
    (x,) = tensors("x", [values], (low, high))
    assert (x.min(), x.max()) == (0, 1)


def test_all_splits_have_one_scale():
    dark = np.zeros((5, 6, 5), np.uint8)
    for x in tensors("x", [GREY.astype(np.uint8), dark, dark + 1])[1:]:
        assert x.max() <= 1 / 255 + 1e-9


def test_channels_come_first_whatever_the_type():
    for kind in (np.uint8, np.float32):
        (x,) = tensors("x", [np.repeat(GREY[..., None], 3, -1).astype(kind)])
        assert x.shape == (40, 3, 6, 5)
    (x,) = tensors("x", [GREY.reshape(40, 30).astype(np.uint8)])
    assert x.shape == (40, 30)
    assert x.max() == 1


def test_a_vae_of_bytes_of_0_and_1_sees_them(tmp_path):
    np.savez(tmp_path / "a.npz", train=BINARY.astype(np.uint8), test=BINARY[:9].astype(np.uint8))
    splits = load_splits(str(tmp_path / "a.npz"))
    assert splits.train.tensors["x"].mean() > 0.4
    np.savez(tmp_path / "b.npz", x=(GREY // 16).astype(np.uint8))
    assert load_splits(str(tmp_path / "b.npz"), (0, 15)).train.tensors["x"].max() == 1
    with pytest.raises(UserError, match="--range 0 15"):
        load_splits(str(tmp_path / "b.npz"))


def test_rows_of_a_square_number_of_pixels_are_images_and_it_is_said(capsys):
    flat = torch.arange(32.0).reshape(2, 16)
    assert torch.equal(images("this", {"x": flat}), flat.reshape(2, 1, 4, 4))
    assert "rows of 16 numbers in column 'x' are taken for 4 × 4 pixels" in capsys.readouterr().err
    assert torch.equal(images("this", {"x": flat}, most_dims=2), flat)
    for x in (flat[:, :15], flat[:, 0], flat.long().reshape(2, 1, 4, 4)):
        with pytest.raises(UserError, match="this needs a column 'x' of images"):
            images("this", {"x": x})


def test_labels_may_be_one_hot_or_a_column_or_floats():
    classes = np.arange(12) % 3
    for labels in (classes, np.eye(3)[classes], classes[:, None], classes.astype(float)):
        for name in ("label", "y"):
            assert class_numbers({name: labels}).tolist() == classes.tolist()
    assert class_numbers({"label": classes + 0.5}) is None
    assert class_numbers({"other": classes}) is None
    x = torch.zeros(12, 5, 4)
    image, label = labelled_images("this", {"x": x, "y": torch.from_numpy(classes)})
    assert (image.shape, label.dtype) == ((12, 1, 5, 4), torch.int64)
    with pytest.raises(UserError, match=r"'label' .* of whole numbers from 0 on"):
        labelled_images("this", {"x": x, "label": torch.from_numpy(classes - 1)})
