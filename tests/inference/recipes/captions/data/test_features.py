"""Features: resumed bit for bit, never written over, and encoders that see what is there."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from inference import UserError
from inference.recipes.captions.data import features
from inference.recipes.captions.data.captions import load_captions
from inference.recipes.captions.data.encoders import load_encoder
from inference.recipes.captions.data.features import BATCH, extract, features_file
from tests.support.pictures import pictures, png


def record(file):
    return json.loads(file.with_name(f"{file.name}.json").read_text())


def torn(seed):
    return png(seed)[:-40] if seed == BATCH + 5 else png(seed)


def test_pixels_are_the_cells_of_the_picture_and_know_their_place(tmp_path):
    features = extract(pictures(3), "pixels", tmp_path / "f.npy")
    assert features.shape == (3, 16, 192 + 8)
    assert features.dtype == np.float16
    pixels = np.asarray(pictures(3)[2].open()) / 255
    cell = pixels[8:16, 24:32].transpose(2, 0, 1).reshape(-1)  # second row, fourth column
    assert np.array_equal(features[2, 7, :192], cell.astype(np.float16))
    assert features[2, 7, 192:].tolist() == [0, 1, 0, 0, 0, 0, 0, 1]


def test_a_file_is_not_computed_again_and_not_written_through(tmp_path, monkeypatch):
    first = extract(pictures(3), "pixels", tmp_path / "f.npy")
    torch.from_numpy(first).zero_()
    monkeypatch.setattr(features, "load_encoder", None)
    again = extract(pictures(3), "pixels", tmp_path / "f.npy")
    assert np.abs(again).sum() > 0


def test_a_broken_picture_is_named_and_what_was_done_is_kept(tmp_path):
    file = tmp_path / "f.npy"
    with pytest.raises(UserError, match=rf"picture {BATCH + 5}.png cannot be read"):
        extract(pictures(read=torn), "pixels", file)
    assert record(file)["done"] == BATCH
    begun = file.read_bytes()
    whole = extract(pictures(), "pixels", tmp_path / "whole.npy")
    assert np.array_equal(extract(pictures(), "pixels", file), whole)
    assert begun[-100:] == file.read_bytes()[len(begun) - 100 : len(begun)]


def test_a_replaced_picture_is_noticed(tmp_path):
    """Names are alike, as those of any two parquet files; the bytes are not."""
    extract(pictures(3), "pixels", tmp_path / "f.npy")
    with pytest.raises(UserError, match=r"f.npy holds features of other pictures: delete it"):
        extract(
            pictures(3, read=lambda seed: png(seed + (seed == 2))), "pixels", tmp_path / "f.npy"
        )


def test_two_sets_of_pictures_never_share_a_file(tmp_path):
    names = [f"{i}.png" for i in range(3)]
    for place in ("one", "two"):
        (tmp_path / place / "photos").mkdir(parents=True)
    one, two = (
        features_file(str(tmp_path / p / "photos"), names, "pixels") for p in ("one", "two")
    )
    assert one != two
    assert one != features_file(str(tmp_path / "one" / "photos"), names[:2], "pixels")
    assert one.startswith("photos-pixels-")
    assert "/" not in features_file("hub:somebody/set", names, "timm:hf-hub/x")


KILLED = """
import os, signal
from inference.recipes.captions.data.features import BATCH, extract
from tests.support.pictures import pictures, png
def read(seed):
    if seed == 2 * BATCH + 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return png(seed)
extract(pictures(read=read), "{encoder}", "{file}")
"""


def test_a_killed_extraction_goes_on_bit_for_bit(tmp_path):
    encoder, file = f"{OURS}:random", tmp_path / "f.npy"
    script = KILLED.format(encoder=encoder, file=file)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert record(file)["done"] == 2 * BATCH
    with file.open("ab") as out:
        out.write(b"half of a batch")
    whole = extract(pictures(), encoder, tmp_path / "whole.npy")
    assert np.array_equal(extract(pictures(), encoder, file), whole)
    assert file.read_bytes() == (tmp_path / "whole.npy").read_bytes()


OURS = "tests.support.pictures"


@pytest.mark.parametrize(
    ("encoder", "sentence"),
    [
        ("vgg", "no encoder 'vgg': give one of efficientnet-lite0"),
        (f"{OURS}:none", "no encoder .* has no attribute 'none'"),
        ("nowhere.at.all:none", "no encoder .*No module named 'nowhere'"),
        (f"{OURS}:number", "is a int: give an nn.Module"),
        (f"{OURS}:flat", r"gives \(1, 150528\): it must give \(B, D, H, W\)"),
        (f"{OURS}:huge", "float16 does not hold for picture 0.png"),
    ],
)
def test_bad_encoders_are_named(tmp_path, encoder, sentence):
    with pytest.raises(UserError, match=sentence):
        extract(pictures(2), encoder, tmp_path / "f.npy")


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "f.npy"
    extract(pictures(3), "pixels", file)
    with pytest.raises(
        UserError, match=r"f.npy holds features of pixels, not of efficientnet-lite0"
    ):
        extract(pictures(3), "efficientnet-lite0", file)
    with pytest.raises(UserError, match=r"f.npy holds features of other pictures: delete it"):
        extract(pictures(4), "pixels", file)
    with pytest.raises(UserError, match=r"ends on .npy"):
        extract(pictures(3), "pixels", tmp_path / "f")
    np.save(tmp_path / "own.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"own.npy has no own.npy.json beside it"):
        extract(pictures(3), "pixels", tmp_path / "own.npy")
    assert len(np.load(tmp_path / "own.npy")) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_an_absent_gpu_is_refused(tmp_path):
    with pytest.raises(UserError, match="torch finds no GPU; use 'cpu'"):
        extract(pictures(3), "pixels", tmp_path / "f.npy", device="cuda")


def test_damaged_files_are_refused(tmp_path):
    file = tmp_path / "f.npy"
    extract(pictures(3), "pixels", file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        UserError, match=r"f.npy lacks features that f.npy.json counts: delete both"
    ):
        extract(pictures(3), "pixels", file)
    file.with_name("f.npy.json").write_text("{}")
    with pytest.raises(UserError, match=r"f.npy.json is not a record of features"):
        extract(pictures(3), "pixels", file)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_efficientnet_has_7_by_7_locations(name):
    pytest.importorskip("efficientnet_lite_pytorch")
    grid = load_encoder(name).to("cpu")([pictures(1)[0].open()])
    assert grid.shape == (1, 49, 1280)
    assert grid.dtype == torch.float32


@pytest.mark.slow
def test_the_chosen_normalisation_is_the_one_that_finds_the_dogs():
    """ImageNet's classes 151 to 268 are dogs; the usual normalisation finds fewer, less surely."""
    pytest.importorskip("efficientnet_lite_pytorch")
    try:
        found = load_captions("flickr8k")
    except UserError as error:
        pytest.skip(str(error))
    dogs = [p for p in found.pictures if sum(" dog " in f" {c} " for c in p.captions) >= 4][:96]
    opened = [p.open() for p in dogs]
    share, entropy = _dogs(load_encoder("efficientnet-lite0"), opened)
    for other in (((0.0,) * 3, (1.0,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))):
        shifted = replace(load_encoder("efficientnet-lite0"), mean=other[0], std=other[1])
        fewer, less_sure = _dogs(shifted, opened)
        assert share > fewer
        assert entropy < less_sure - 0.1
    assert share > 0.8


@torch.inference_mode()
def _dogs(encoder, opened):
    features = torch.cat([encoder.to("cpu")(opened[i : i + 32]) for i in range(0, len(opened), 32)])
    p = encoder.grid.network._fc(features.mean(1)).softmax(-1)
    best = p.argmax(-1)
    share = ((best >= 151) & (best <= 268)).double().mean()
    return share, torch.special.entr(p).sum(-1).mean()
