"""lowerbound fit glimpses, lowerbound look: a whole run, its figures, and mistakes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import convolutional
from inference import UserError
from inference.cli.main import main
from inference.data.columns import Columns
from inference.recipes.glimpses.glimpses import build, labelled, prepared
from inference.recipes.glimpses.options import GlimpsesOptions
from inference.recipes.glimpses.problem import Problem, program
from inference.recipes.glimpses.report.figures import calibration_error, errors, said
from inference.results.traces import read_trace

SMALL = ["--glimpse", "3", "--looks", "3", "--width", "32", "--epochs", "8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "glimpses"
    main(["fit", "glimpses", *SMALL, "--learning-rate", "1e-2", "--out", str(directory)])
    return directory


def test_a_run_learns_and_leaves_its_pictures(run):
    figures = json.loads((run / "figures.json").read_text())
    one, mean = (
        figures[name]["mean"] for name in ("test error %, one run", "test error %, mean of 10 runs")
    )
    assert mean < one < 60  # chance is 90
    assert figures["test ELBO"]["mean"] < figures["test L_10"]["mean"]
    with Image.open(run / "looks.png") as looks, Image.open(run / "look.gif") as moving:
        assert looks.size[0] > 400
        assert moving.n_frames == 3


def test_bounds_ascend_to_the_evidence(tmp_path):
    """A guide that knows the label is between the papers' bound and log p, by far on each side."""
    options = ["--places", "grid", "--grid", "3", "--glimpse", "3", "--looks", "2"]
    options += ["--guide", "label", "--width", "32", "--epochs", "15", "--learning-rate", "1e-2"]
    main(["fit", "glimpses", *options, "--out", str(tmp_path)])
    figures = json.loads((tmp_path / "figures.json").read_text())
    names = ["E log p(y | l, I), l ~ p", "ELBO", "L_10", "log p(y | I)"]
    found = [figures[f"test {name}"]["mean"] for name in names]
    assert found == sorted(found)
    assert found[1] - found[0] > 0.02
    assert found[3] - found[1] > 0.01


def test_look_says_and_draws(run, tmp_path, capsys):
    pixels = (prepared("digits")[0][2].tensors["x"][:2, 0] * 255).byte().numpy()
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    main(["look", str(run), *map(str, files)])
    said = capsys.readouterr().out
    assert all(f"{file}: " in said for file in files)
    assert {p.name for p in (run / "looks").iterdir()} == {"0.gif", "1.gif", "looks.png"}


def test_look_refuses_other_sizes_other_files_and_unfinished_runs(run, tmp_path, capsys):
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "tall.png")
    (tmp_path / "text.png").write_text("no picture")
    for arguments, words in (
        ([str(run), str(tmp_path / "tall.png")], "is 9 × 8; this run looks at 8 × 8"),
        ([str(run), str(tmp_path / "text.png")], "text.png cannot be read (no kind of picture"),
        ([str(tmp_path), str(tmp_path / "tall.png")], "holds no finished glimpses"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["look", *arguments])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"glimpse": 9}, "--glimpse is 9: the images are 8 × 8"),
        ({"glimpse": 5, "network": "dram"}, "at least 7"),
        ({"glimpse": 3, "places": "grid", "grid": 1}, "--grid is 1"),
        ({"glimpse": 3, "sigma_at_first": 0.05}, "--sigma-at-first is 0.05, less than"),
        ({"glimpse": 3, "places": "grid", "sigma_at_first": 0.5}, "not --places grid"),
        ({"glimpse": 3, "looks": 10**9}, "give fewer looks"),
    ],
)
def test_impossible_options_are_refused_in_words(options, words):
    with pytest.raises(UserError, match=words):
        build(GlimpsesOptions(**options))


def test_data_without_images_or_labels_are_refused():
    with pytest.raises(UserError, match="whole numbers"):
        labelled(Columns({"x": torch.zeros(3, 1, 8, 8), "label": torch.full((3,), 0.5)}))
    with pytest.raises(UserError, match="'label'"):
        labelled(Columns({"x": torch.zeros(3, 1, 8, 8)}))


@pytest.mark.parametrize("places", ["anywhere", "smooth", "grid", "random"])
@pytest.mark.parametrize("network", ["ram", "dram"])
def test_every_program_says_a_class_for_each_target(places, network):
    options = GlimpsesOptions(places=places, network=network, glimpse=8, looks=2, width=16)
    model = program(options, Problem((1, 36, 40), 11, targets=3, end=10), size=4)
    looks = model(torch.rand(4, 1, 36, 40), torch.zeros(4, 3, dtype=torch.long))
    assert [look.logits.shape for look in looks] == [(4, 11)] * 6
    assert all(bool((look.place.abs() <= 1).all()) for look in looks)


def test_errors_count_to_the_end_of_a_sequence():
    y = torch.tensor([[1, 2, 2], [0, 2, 2]])
    counted = said(y, end=2)
    assert counted.tolist() == [[True, True, False], [True, True, False]]
    probabilities = torch.zeros(2, 3, 3)
    probabilities[0, [0, 1, 2], [1, 2, 0]] = 1  # wrong only after the end
    probabilities[1, [0, 1, 2], [0, 1, 2]] = 1
    assert errors(probabilities, y, counted).tolist() == [0, 1]


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    confident = torch.tensor([[0.9, 0.1]] * 10)
    y = torch.tensor([0] * 7 + [1] * 3)
    assert calibration_error(confident, y) == pytest.approx(0.2)
    assert calibration_error(confident, torch.tensor([0] * 9 + [1])) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_two_draws_through_a_smooth_retina_compile(tmp_path):
    """Its reads between pixels lie in memory in another order when compiled."""
    options = ["--places", "smooth", "--estimator", "Pathwise", "--particles", "2", *SMALL[:-1]]
    traces = []
    for compiled in ("--compile", "--no-compile"):
        main(["fit", "glimpses", *options, "1", compiled, "--out", str(tmp_path / compiled)])
        traces.append(read_trace(tmp_path / compiled)["svi"]["elbo"].to_numpy())
    np.testing.assert_allclose(*traces, rtol=1e-3)


def test_the_convolutional_net_beside_glimpses_names_its_shapes():
    options = convolutional.Options(data="translated")
    image = Problem((1, 60, 60), 10)
    for network in ("paper", "deeper"):
        layers = convolutional.network_of(replace(options, network=network), image)
        assert layers(torch.zeros(2, 1, 60, 60)).shape == (2, 10)
    with pytest.raises(UserError, match="images of 8 × 8"):
        convolutional.build(convolutional.Options(data="digits"))
