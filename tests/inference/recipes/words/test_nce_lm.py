"""Language models from the shell: every score and objective, its report, its mistakes."""

import json
import random

import pytest
import torch
from torch.nn import functional as F

from inference.cli.fit import fit_recipe
from inference.cli.main import main
from inference.cli.registry import find
from inference.recipes.words import nce_lm

WORDS = [f"w{i}" for i in range(12)]
SMALL = ["--hidden", 8, "--epochs", 2, "--batch-size", 50, "--k", 3, "--learning-rate", 0.02]


def run(*arguments):
    main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A text in which each word is followed by one of two, or by the end of its line."""
    folder, draw, word = tmp_path_factory.mktemp("text"), random.Random(0), 0
    for part, count in (("train", 300), ("valid", 30), ("test", 30)):
        lines = []
        for _ in range(count):
            words = []
            for _ in range(10):
                word = (2 * word + draw.randint(0, 1)) % len(WORDS)
                words.append(WORDS[word])
            lines.append(" ".join(words))
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("score", ["log-bilinear", "lstm"])
@pytest.mark.parametrize("objective", ["nce", "softmax"])
def test_fit_leaves_a_whole_run(chain, tmp_path, score, objective):
    kind = ["--score", score, "--objective", objective, "--length", 4]
    run("fit", "nce-lm", "--data", chain, *kind, *SMALL, "--out", tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert 2 < figures["perplexity, test"]["mean"] < len(WORDS) + 2
    assert figures["perplexity, test"]["standard_error"] > 0
    assert (tmp_path / "vocabulary.json").exists()
    terms = {"nce": {"data", "noise"}, "softmax": {"data"}}[objective]
    from inference.results.traces import read_trace

    assert {f"log_likelihood_{t}" for t in terms} <= set(read_trace(tmp_path)["svi"].data_vars)


def trained(chain, tmp_path, **options):
    options = {"epochs": 4, "hidden": 16, "batch_size": 50, "learning_rate": 0.05} | options
    chosen = nce_lm.Options(data=str(chain), out=tmp_path, schedule="cosine", **options)
    return fit_recipe(find("nce-lm"), chosen)


LEARNERS = [
    {"objective": "nce", "shared": 100, "sparse": True, "learning_rate": 0.4},
    {"objective": "softmax"},
]
MORE = [
    {"objective": "nce", "k": 10, "shared": None},
    {"objective": "nce", "noise_power": 0.0, "learn_log_z": True},
    {"objective": "negative-sampling", "k": 10, "shared": None},
    {"objective": "sampled-softmax", "shared": 100},
    {"objective": "info-nce", "k": 10, "shared": None},
]


@pytest.mark.parametrize(
    "how",
    [*LEARNERS, *(pytest.param(how, marks=pytest.mark.slow) for how in MORE)],
    ids=lambda how: "-".join(str(v) for v in how.values()),
)
def test_every_objective_learns_the_chain(chain, tmp_path, how):
    """The maximum likelihood of two words in a row, ends of lines among them, is near 3.0.

    That of the unigrams, which all begin with, is above 10.
    """
    _, figures = trained(chain, tmp_path, length=1, **how)
    assert figures["perplexity, test"].value < 3.3
    if how["objective"] == "nce":
        assert abs(figures["log Z, test"]) < 0.3
        assert figures["perplexity as if Z were 1, test"].value < 3.6


@pytest.mark.parametrize("score", ["log-bilinear", "lstm"])
def test_perplexity_by_hand(chain, tmp_path, score):
    """Every word of the test text after the first few, the LSTM reading it in one go."""
    done, figures = trained(chain, tmp_path, score=score, epochs=1, length=3)
    from inference.recipes.words.data.text import load_text

    text, model = load_text(str(chain)).test.long(), done.programs[0].model.eval()
    with torch.no_grad():
        if score == "lstm":
            h, w = model.encode.lstm(model.encode.r[text[:-1]][None])[0][0], text[1:]
        else:
            c = torch.stack([text[i : i + 3] for i in range(len(text) - 3)])
            h, w = (model.encode.C * model.encode.r[c]).sum(1), text[3:]
        nats = F.cross_entropy(h @ model.score.u.T + model.score.b[:, 0], w)
    assert figures["perplexity, test"].value == pytest.approx(float(nats.exp()), rel=1e-5)


def test_mistakes_are_a_sentence(chain, tmp_path, capsys):
    for flags, sentence in (
        (["--k", 0], "give at least 1"),
        (["--data", tmp_path / "none.txt"], "no text"),
        (["--length", 4000], "fewer than 4001"),
        (["--noise-power", 500], "--noise-power 500 makes counts overflow or vanish"),
        (["--noise-power", "nan"], "--noise-power is nan: give a finite number"),
    ):
        with pytest.raises(SystemExit) as stop:
            run("fit", "nce-lm", "--data", chain, *flags, "--out", tmp_path)
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err


def test_both_spellings_are_one_recipe():
    assert find("nce-lm") == find("nce_lm")
