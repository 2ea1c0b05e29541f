"""lowerbound fit rationales, lowerbound highlight: whole runs, their figures, and mistakes."""

import json

import pytest
import torch

from inference import UserError
from inference.cli.main import main
from inference.data.vocabulary import Vocabulary
from inference.recipes.rationales.data.columns import words_of
from inference.recipes.rationales.data.documents import load_texts
from inference.recipes.rationales.highlight import trained
from inference.recipes.rationales.options import RationalesOptions
from inference.recipes.rationales.rationales import build
from inference.recipes.rationales.report.predictions import answer


def fit(directory, *options):
    main(["fit", "rationales", "--width", "32", *options, "--out", str(directory)])
    figures = json.loads((directory / "figures.json").read_text())
    return {name: value["mean"] for name, value in figures.items() if isinstance(value, dict)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "rationales"
    return directory, fit(directory, "--epochs", "30")


def test_planted_rationales_are_found(run):
    _, figures = run
    assert figures["word F1 of the most likely mask"] >= 0.95
    assert figures["average precision"] >= 0.95
    assert figures["accuracy, drawn masks"] >= 0.95
    assert figures["bound, ELBO"] <= figures["bound, L_10"] + 1e-3
    assert figures["(average precision of chance)"] < 0.3


def test_a_run_leaves_a_page_and_a_curve(run):
    directory, _ = run
    page = (directory / "rationales.html").read_text()
    assert "<mark>" in page
    assert "<u>" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (directory / "rates.png").read_bytes()[1:4] == b"PNG"


def test_highlight_marks_what_decides(run, tmp_path, capsys):
    directory, _ = run
    text = tmp_path / "review.txt"
    text.write_text(
        "A sailor waits near a lamp at noon. The ending is a delight. The cook looks on."
    )
    main(["highlight", str(directory), str(text), "--rate", "0.3"])
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{text}: POS" in printed
    assert "»the ending is a delight . «" in printed


def test_highlight_refuses_empty_texts_missing_files_and_unfinished_runs(run, tmp_path, capsys):
    directory, _ = run
    (tmp_path / "empty.txt").write_text(" \n")
    for arguments, words in (
        ([str(directory), str(tmp_path / "empty.txt")], "has no words"),
        (
            [str(directory), str(tmp_path / "none.txt")],
            "none.txt cannot be read (No such file or directory)",
        ),
        ([str(tmp_path), str(tmp_path / "empty.txt")], "holds no finished rationales"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["highlight", *arguments])
        assert stop.value.code == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_a_trained_model_is_read_back(run):
    directory, figures = run
    model, options, vocabulary, labels = trained(directory)
    texts = load_texts(options.data, options.limit).test
    with torch.no_grad():
        found = answer(model, words_of(texts, vocabulary, options.longest), 10)
    y = torch.tensor([labels.index(document.label) for document in texts])
    right = (found.averaged.argmax(-1) == y).double().mean()
    assert float(right) == pytest.approx(figures["accuracy, drawn masks"], abs=0.02)


@pytest.mark.parametrize(
    "options",
    [
        ("--rate", "0.2", "--coherence", "0.01"),
        ("--reading", "prior", "--beta", "0.1", "--guide", "label", "--seeds", "2"),
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                ("--masks", "sequential", "--human", "0.3", "--encoder", "lstm"),
                ("--reading", "prior", "--learn-cost", "--estimator", "DisARM"),
                ("--guide", "label", "--human", "0.5"),
                ("--masks", "sequential", "--estimator", "ScoreFunction", "--baseline", "neural"),
                ("--unit", "word", "--encoder", "convolution", "--estimator", "GumbelSoftmax"),
                ("--frozen", "--pairs", "100", "--also", "planted"),
                ("--estimator", "REBAR", "--particles", "1"),
            )
        ),
    ],
    ids=lambda options: " ".join(options),
)
def test_every_option_runs(options, tmp_path):
    figures = fit(tmp_path / "run", "--epochs", "1", *options)
    name = "average precision" + (", 2 seeds" if "--seeds" in options else "")
    assert 0.1 < figures[name] <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": 0.5}, "--beta is of --reading prior"),
        ({"learn_cost": True}, "--learn-cost is of --reading prior"),
        ({"reading": "prior", "rate": 0.2}, "--rate is of --reading observed"),
        ({"reading": "prior", "human": 0.2}, "--human is of --reading observed"),
        ({"reading": "prior", "masks": "sequential"}, "--masks sequential is of"),
        ({"vectors": "nowhere.txt"}, "nowhere.txt cannot be read"),
    ],
)
def test_contradictions_are_refused_in_words(options, words):
    with pytest.raises(UserError, match=words):
        build(RationalesOptions(**options))


def test_the_words_are_kept_beside_the_run(run):
    directory, _ = run
    vocabulary = Vocabulary.load(directory / "vocabulary.json")
    assert {"superb", "dreadful"} <= set(vocabulary.words)
    assert json.loads((directory / "labels.json").read_text()) == ["NEG", "POS"]
