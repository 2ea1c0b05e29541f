"""lowerbound fit images-labels: whole runs, their figures, and mistakes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from guides.deconvolutional import Convolutional
from inference import UserError
from inference.cli.main import main
from inference.estimators import GumbelSoftmax
from inference.recipes.labelled_images.images_labels import build
from inference.recipes.labelled_images.options import ImagesLabelsOptions as Options
from inference.recipes.labelled_images.problem import PAPERS, layers_of
from ppl_models.deconvolutional import Deconvolutional, Layer, levels

FAST = ["--batch-size", "64", "--learning-rate", "1e-2", "--layers", "8x3 pool 2, 16x3"]


def figures_of(directory):
    return json.loads((directory / "figures.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "images"
    main(["fit", "images-labels", *FAST, "--epochs", "8", "--out", str(directory)])
    return directory


def test_a_run_learns_and_leaves_its_pictures(run):
    figures = figures_of(run)
    assert figures["error %, mean of 20 draws"]["mean"] < 55  # chance is 90
    assert figures["images"] == 250
    for name in ("dictionaries", "reconstructions", "unpooling", "samples"):
        with Image.open(run / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.parametrize("head", [pytest.param("svm", marks=pytest.mark.slow), "augmented-svm"])
def test_the_svm_learns_drawn_or_summed_out(head, tmp_path):
    options = [*FAST, "--head", head, "--epochs", "12", "--labels", "600", "--out", str(tmp_path)]
    main(["fit", "images-labels", *options])
    assert figures_of(tmp_path)["error %, mean of 20 draws"]["mean"] < 75


@pytest.mark.slow
def test_m1_m2_learns_from_few_labels(tmp_path):
    m1 = ["--epochs", "20", "--latent-dim", "10", "--likelihood", "gaussian"]
    m1 += ["--learning-rate", "3e-3", "--batch-size", "64"]
    main(["fit", "vae", *m1, "--out", str(tmp_path / "m1")])
    m2 = ["--model", "m2", "--codes", str(tmp_path / "m1"), "--latent-dim", "5", "--hidden", "50"]
    m2 += ["--labels", "100", "--epochs", "25", "--batch-size", "64", "--learning-rate", "5e-3"]
    main(["fit", "images-labels", *m2, "--out", str(tmp_path / "m2")])
    assert figures_of(tmp_path / "m2")["error %"]["mean"] < 40


def test_m2_of_pixels_with_the_label_drawn(tmp_path):
    m2 = ["--model", "m2", "--label", "drawn", "--latent-dim", "5", "--hidden", "50"]
    m2 += ["--labels", "100", "--epochs", "6", "--learning-rate", "5e-3", "--out", str(tmp_path)]
    main(["fit", "images-labels", *m2])
    assert figures_of(tmp_path)["error %"]["mean"] < 70


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": "16x4 pool 2"}, "layer 1: maps of 5 × 5 do not divide into blocks of 2 × 2"),
        ({"layers": "16y3"}, "--layers has '16y3'"),
        ({"layers": "0x3"}, "--layers has '0x3'"),
        ({"padding": "same", "layers": "16x4"}, "has no middle"),
        ({"labels": 5}, "--labels is 5 for 10 classes"),
        ({"codes": "runs/m1"}, "--codes are for --model m2"),
        ({"model": "m2", "codes": "nowhere"}, "nowhere holds no finished vae"),
    ],
)
def test_impossible_options_are_refused_in_words(options, words):
    from pathlib import Path

    if "codes" in options:
        options = {**options, "codes": Path(options["codes"])}
    with pytest.raises(UserError, match=words):
        build(Options(**options))


def test_layers_as_people_write_them():
    assert layers_of("30×8² pool 3, 80×6²") == [Layer(30, 8, 3), Layer(80, 6)]
    assert layers_of(PAPERS[32])[-1] == Layer(128, 5, 1)


@pytest.mark.parametrize(
    ("image", "layers", "same"),
    [
        ((3, 32, 32), PAPERS[32], False),
        ((3, 128, 128), "48x7 pool 4, 84x5 pool 2, 84x5", True),  # Caltech 101
    ],
    ids=["cifar", "caltech"],
)
def test_the_papers_other_architectures_take_a_step_on_noise(image, layers, same):
    torch.manual_seed(0)
    model = Deconvolutional(levels(image, layers_of(layers), same), 2)
    guide = Convolutional(model)
    loss = GumbelSoftmax(max_plate_nesting=1).differentiable_loss(
        model, guide, torch.rand(2, *image)
    )
    loss.backward()
    for name, parameter in [*model.named_parameters(), *guide.encoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name
