"""lowerbound fit images-captions: captions of codes, of all pictures or of few."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from inference import UserError
from inference.cli.main import main
from inference.data.columns import Columns
from inference.recipes.captions.images_captions import build, columns
from inference.recipes.captions.options import ImagesCaptionsOptions
from ppl_models.caption_head import NO_CAPTION

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
FAST = ["--encoder", "pixels", "--hidden", "16", "--minimum", "1", "--maps", "8", "--top", "4"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixty pictures of one colour, each with a caption that names it."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["image,caption"]
    for i in range(60):
        name = list(COLOURS)[i % 3]
        Image.fromarray(np.full((40, 40, 3), COLOURS[name], np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,all {name}")
    (folder / "captions.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(
    "attention", ["--attention", pytest.param("--no-attention", marks=pytest.mark.slow)]
)
def test_a_code_says_what_the_picture_shows(attention, pictures, tmp_path):
    options = [*FAST, attention, "--epochs", "20", "--batch-size", "16", "--dropout", "0"]
    options += ["--learning-rate", "1e-2", "--features", str(tmp_path), "--captions", "0.5"]
    out = tmp_path / "run"
    main(["fit", "images-captions", "--data", str(pictures), *options, "--out", str(out)])
    figures = json.loads((out / "figures.json").read_text())
    assert figures["test perplexity per word, at most"] < 1.4  # of a fair guess 3 ** (1/3) = 1.44
    said = json.loads((out / "captions.json").read_text())
    right = [said[name] == f"all {list(COLOURS)[int(name[:-4]) % 3]}" for name in said]
    assert np.mean(right) > 0.6  # a third by chance


def test_a_share_of_pictures_keeps_its_captions_whole():
    rows = Columns({"image": torch.arange(40) // 2, "y": torch.tensor([[2, 3, 0]]).expand(40, -1)})
    kept = columns(rows, torch.zeros(20, 1, 2, 2), 0.25).tensors
    known = (kept["y"] != NO_CAPTION).all(1)
    assert int(known.sum()) == 10
    assert torch.equal(known[::2], known[1::2])
    assert torch.equal(kept["x"], torch.arange(40) // 2)


def test_layers_that_do_not_fit_the_grid(pictures, tmp_path):
    options = ImagesCaptionsOptions(
        data=str(pictures), encoder="pixels", features=tmp_path, pool=3, minimum=1
    )
    with pytest.raises(UserError, match="--kernel and --pool do not fit a grid"):
        build(options)
