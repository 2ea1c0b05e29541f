"""The captioner from the shell: fit, its report, captions of new pictures, mistakes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from inference import UserError
from inference.cli.main import main
from inference.data.vocabulary import MARKS, Vocabulary
from inference.recipes.captions.captioner import Options, build
from inference.recipes.captions.data.pictures import Picture
from inference.recipes.captions.report.figures import score_captions
from inference.recipes.captions.trained import trained as trained_captioner
from ppl_models.decoding import Captions

FAST = ["--encoder", "pixels", "--epochs", 2, "--hidden", 8, "--minimum", 1, "--batch-size", 8]


def run(*arguments):
    main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Thirty pictures of one colour, each with two captions that name it."""
    folder = tmp_path_factory.mktemp("pictures")
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    lines = ["image,caption"]
    for i in range(30):
        name = list(colours)[i % 3]
        Image.fromarray(np.full((40, 40, 3), colours[name], np.uint8)).save(folder / f"{i}.png")
        lines += [f"{i}.png,all {name}", f"{i}.png,it is {name} all over ."]
    (folder / "captions.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module", params=["soft", "hard"])
def trained(request, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / request.param
    hard = ["--estimator", "LeaveOneOut", "--particles", 2] if request.param == "hard" else []
    kept = ["--features", out.parent / "features", "--out", out]
    run("fit", "captioner", "--attention", request.param, *hard, "--data", pictures, *FAST, *kept)
    return out


def test_fit_leaves_a_whole_run(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"vocabulary.json", "captions.html", "caption.png", "figures.json"} <= names
    figures = json.loads((trained / "figures.json").read_text())
    assert 0 <= figures["BLEU-1, test"]["mean"] <= 100
    words = 3 * 3 + 3 * 6  # of three test pictures, END included
    bound = figures["test ELBO"]["mean"] * 6
    assert figures["test perplexity per word, at most"] == pytest.approx(np.exp(-bound / words))


def test_caption(trained, pictures, capsys):
    run("caption", trained, pictures / "0.png", pictures / "1.png")
    printed = capsys.readouterr().out
    assert f"{pictures / '0.png'}: " in printed
    assert (trained / "captions" / "1.png").exists()


def test_a_fit_begins_with_another_s_networks(trained, pictures, tmp_path):
    kept = ["--data", pictures, *FAST, "--features", tmp_path, "--out", tmp_path / "run"]
    run("fit", "captioner", "--start", trained, *kept, "--learning-rate", 0, "--epochs", 1)
    found, given = (
        trained_captioner(d).captioner.state_dict() for d in (tmp_path / "run", trained)
    )
    assert all((found[name] == given[name]).all() for name in given)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden": 16}, "have other widths"),
        ({"minimum": 19}, "has another vocabulary"),
        ({"seeds": 2}, "2 seeds cannot all begin"),
    ],
)
def test_what_cannot_be_begun_with_is_named(trained, pictures, tmp_path, change, sentence):
    same = {"hidden": 8, "minimum": 1, "encoder": "pixels", "features": tmp_path}
    with pytest.raises(UserError, match=sentence):
        build(Options(data=str(pictures), start=trained, **same | change))


def test_mistakes_are_a_sentence(trained, pictures, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    for arguments, sentence in (
        ((trained, broken), "broken.jpg cannot be read (no kind of picture"),
        ((trained, tmp_path / "none.jpg"), "none.jpg cannot be read"),
        ((tmp_path, pictures / "0.png"), "holds no finished captioner (config.json is missing)"),
    ):
        with pytest.raises(SystemExit) as stop:
            run("caption", *arguments)
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err


def test_the_full_stop_can_count_as_a_word():
    """Of "a dog ." two words are in "A cat ." and none but "a" in "a cat": by hand."""
    words, nothing = torch.tensor([[2, 3, 0]]), torch.zeros(1)
    said, known = Captions(words, nothing, nothing, nothing), Vocabulary((*MARKS, "a", "dog"))
    for caption, stop, share in (
        ("A cat .", False, 1 / 2),
        ("A cat .", True, 2 / 3),
        ("a cat", True, 1 / 3),
    ):
        picture = Picture("x", "test", (caption,), bytes)
        found = score_captions(said, [picture], known, stop).corpus["BLEU-1"].value
        assert found == pytest.approx(100 * share, rel=1e-6)
