"""Pictures as every viewer shows them, from every place that pictures come from."""

import io
import os

import numpy as np
import pytest

from inference import UserError
from inference.data.sources import load_splits

image = pytest.importorskip("PIL.Image")
from inference.data.readers.pictures import decode_picture, in_colour, picture_bytes  # noqa: E402

RAMP = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (16, 1))


def encoded(picture, kind="png", **more):
    out = io.BytesIO()
    picture.save(out, kind, **more)
    return out.getvalue()


def read(picture, kind="png", **more):
    return decode_picture("a", encoded(picture, kind, **more))


def grey(picture):
    return np.asarray(in_colour(picture))[..., 0]


def turned():
    half = image.fromarray(np.vstack([np.full((8, 16), 255), np.zeros((8, 16))]).astype(np.uint8))
    exif = half.getexif()
    exif[0x112] = 3  # by 180 degrees
    return encoded(half, exif=exif)


def test_sixteen_bits_are_kept_and_scaled():
    deep = read(image.fromarray(RAMP.astype(np.uint16) * 257))
    assert (np.asarray(deep) == RAMP.astype(np.uint16) * 257).all()
    assert (grey(deep) == RAMP).all()


def test_orientation_is_followed():
    assert np.asarray(decode_picture("a", turned()))[:8].max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(mode):
    square = np.zeros((16, 16, 4), np.uint8)
    square[4:12, 4:12, 3] = 255
    shown = grey(read(image.fromarray(square).convert(mode)))
    assert shown[0, 0] == 255
    assert shown[6, 6] == 0


def test_palettes_and_inks_are_colours():
    colours = image.fromarray(np.stack([RAMP, 255 - RAMP, RAMP], -1))
    palette = colours.convert("P", palette=image.Palette.ADAPTIVE, colors=16)
    assert np.abs(np.asarray(read(palette)).astype(int) - np.asarray(colours)).max() < 20
    assert read(colours.convert("CMYK"), "tiff").mode == "RGB"
    assert np.abs(np.asarray(read(colours.convert("CMYK"), "tiff")).astype(int) - colours).max() < 3


def test_of_several_frames_the_first_is_shown():
    frames = [image.fromarray(np.full((5, 5), shade, np.uint8)) for shade in (10, 200)]
    whole = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert grey(decode_picture("a", whole)).max() == 10


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"no picture", "no kind of picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage", "no kind of picture"),
        (encoded(image.fromarray(RAMP))[:-30], "truncated"),
        (encoded(image.new("1", (8000, 8000))), "are more than 50,000,000 pixels"),
        (encoded(image.new("F", (3, 3)), "tiff"), "floating-point numbers"),
    ],
)
def test_what_is_no_picture_is_a_sentence(data, sentence):
    with pytest.raises(UserError, match=rf"picture a.png cannot be read \(.*{sentence}"):
        decode_picture("a.png", data)


def test_what_has_no_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.png", tmp_path / "zero.png"):
        with pytest.raises(UserError, match="is no regular file"):
            picture_bytes(path)


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "I;16", "1", "CMYK"])
def test_a_folder_of_any_mode_has_grey_or_three_channels_in_the_unit_range(mode, tmp_path):
    picture = image.fromarray(np.stack([RAMP] * 3, -1))
    deep = image.fromarray(RAMP.astype(np.uint16) * 257)
    for i in range(12):
        chosen = deep if mode == "I;16" else picture.convert(mode)
        chosen.save(tmp_path / f"{i}.tiff")
    x = load_splits(str(tmp_path)).train.tensors["x"]
    assert x.shape[1:] in {(1, 16, 16), (3, 16, 16)}
    assert (x.min(), x.max()) == (0, 1)
    if mode != "1":
        np.testing.assert_allclose(x[0, 0], RAMP / 255, atol=0.1 if mode == "P" else 1e-3)


def test_grey_and_coloured_pictures_together_are_coloured(tmp_path):
    for i in range(12):
        mode = "L" if i % 2 else "RGB"
        image.fromarray(RAMP).convert(mode).save(tmp_path / f"{i}.png")
        (tmp_path / f"._{i}.png").write_bytes(b"of a Mac")
    assert load_splits(str(tmp_path)).train.tensors["x"].shape[1:] == (3, 16, 16)
    image.fromarray(RAMP[:8]).save(tmp_path / "3.png")
    with pytest.raises(
        UserError, match=r"0.png is 16 × 16, .*3.png is 8 × 16: give pictures of one"
    ):
        load_splits(str(tmp_path))
