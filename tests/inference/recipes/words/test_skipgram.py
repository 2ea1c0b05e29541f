"""Word vectors from the shell: every objective, the report, beliefs, mistakes."""

import itertools
import json
import random
import re

import pytest
import torch

from inference.cli.fit import fit_recipe
from inference.cli.main import main
from inference.cli.registry import find
from inference.engine.program.objective import backward
from inference.engine.program.program import Program
from inference.recipes.words import skipgram
from inference.recipes.words.report.vectors import load_vectors
from inference.results.traces import read_trace

GARDEN = ["apple", "cherry", "flower", "garden", "leaf", "orchard", "petal", "root"]
HARBOUR = ["anchor", "boat", "captain", "harbour", "mast", "ocean", "sail", "wave"]
FLAGS = ["--hidden", 8, "--length", 16, "--batch-size", 16, "--subsample", 1]


def run(*arguments):
    main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Lines of ten words, all of one topic, the first of a topic three times as often."""
    draw, lines = random.Random(0), []
    for number in range(600):
        topic = (GARDEN, HARBOUR)[number % 2]
        lines.append(" ".join(draw.choices(topic, [3, *[1] * 7], k=10)))
    path = tmp_path_factory.mktemp("text") / "topics.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_fit_leaves_vectors_a_map_and_figures(corpus, tmp_path):
    run("fit", "skipgram", corpus, *FLAGS, "--epochs", 1, "--out", tmp_path)
    from gensim.models import KeyedVectors

    vectors = KeyedVectors.load_word2vec_format(str(tmp_path / "vectors.txt"))
    assert sorted(vectors.index_to_key) == sorted(GARDEN + HARBOUR)
    assert vectors.vector_size == 8
    assert (tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"WordSim-353, pairs covered of 353", "analogies covered of 19544"} <= set(figures)
    tree = read_trace(tmp_path)
    assert {"log_likelihood_data", "log_likelihood_noise"} <= set(tree["svi"].data_vars)
    assert "held_out" not in tree.children


def nearest_share_the_topic(vectors):
    """Of every word, the three nearest."""
    return all(
        (near in GARDEN) == (word in GARDEN)
        for word in GARDEN + HARBOUR
        for near, _ in vectors.most_similar(word, topn=3)
    )


LEARNERS = [
    {"objective": "negative-sampling"},
    {"objective": "nce"},
    {"objective": "sampled-softmax"},
    {"objective": "info-nce"},
    {"objective": "negative-sampling", "bayesian": True, "learning_rate": 0.1},
]


@pytest.mark.parametrize("how", LEARNERS, ids=lambda how: "-".join(map(str, how.values())))
def test_neighbours_share_their_topic(corpus, tmp_path, how):
    """By chance, with probability (7 · 6 · 5 / (15 · 14 · 13))¹⁶ < 1e-18."""
    small = {"hidden": 8, "length": 16, "batch_size": 16, "subsample": 1.0, "epochs": 5}
    chosen = skipgram.Options(data=str(corpus), out=tmp_path, **small | how)
    fit_recipe(find("skipgram"), chosen)
    assert nearest_share_the_topic(load_vectors(tmp_path / "vectors.txt"))


def test_beliefs_and_a_held_out_bound(corpus, tmp_path):
    """What is seen three times as often is known better; the bound rises on unseen lines."""
    extra = ["--bayesian", "--held-out", 0.2, "--learning-rate", 0.1, "--epochs", 4]
    run("fit", "skipgram", corpus, *FLAGS, *extra, "--particles", 2, "--out", tmp_path)
    assert (tmp_path / "beliefs.png").read_bytes().startswith(b"\x89PNG")
    held_out = read_trace(tmp_path)["held_out"]["elbo"].values.squeeze()
    assert len(held_out) == 4
    assert held_out[-1] > held_out[0]
    figures = json.loads((tmp_path / "figures.json").read_text())
    frequent, rare = (
        figures[f"posterior sd, the {which}"] for which in ("hundred most frequent", "rarest tenth")
    )
    assert rare > frequent
    assert "count and posterior sd, Spearman's ρ" in figures


def test_held_out_lines_are_not_trained_on(corpus):
    from inference.recipes.words.data import corpus as corpora

    whole = corpora.load_corpus(str(corpus))
    train, valid = skipgram.train_and_held_out(
        skipgram.Options(held_out=0.2, batch_size=None), whole
    )
    assert train.tensors["sentence"].unique().tolist() == list(range(480))
    assert valid.tensors["sentence"].unique().tolist() == list(range(480, 600))


@pytest.mark.parametrize("words", [["aa", "the", "bb"], ["anchor", "boat", "sail", "the", "of"]])
def test_a_text_of_few_words_has_vectors_and_no_map(tmp_path, words):
    """Nor ρ of the words' counts, which would be of fewer than ten."""
    path, draw = tmp_path / "few.txt", random.Random(0)
    path.write_text("\n".join(" ".join(draw.choices(words, k=10)) for _ in range(40)))
    out, few = tmp_path / "run", ["--batch-size", 4, "--epochs", 1, "--bayesian"]
    run("fit", "skipgram", path, *FLAGS, *few, "--out", out)
    assert len(load_vectors(out / "vectors.txt")) == len(words)
    assert not (out / "words.png").exists()
    assert (out / "beliefs.png").exists()
    figures = json.loads((out / "figures.json").read_text())
    assert not any("Spearman" in name for name in figures)


def test_words_that_all_occur_as_often(tmp_path):
    path = tmp_path / "even.txt"
    path.write_text(
        "\n".join(" ".join(random.Random(i).sample(GARDEN + HARBOUR, 16)) for i in range(20))
    )
    few = ["--batch-size", 4, "--epochs", 1, "--bayesian"]
    run("fit", "skipgram", path, *FLAGS, *few, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "words.png").exists()


FILES = {"empty.txt": b"", "binary.txt": b"a\0b c d" * 9, "one.txt": b"boat " * 50}
MISTAKES = [
    (["--data", "empty.txt"], "empty.txt holds no words"),
    (["--data", "binary.txt"], "binary.txt is a binary file"),
    (["--data", "one.txt"], "fewer than 2"),
    (["--data", "none.txt"], "no corpus"),
    (["--k", 0], "k is 0: give at least 1"),
    (["--shared", 0], "shared is 0: give at least 1"),
    (["--window", 0], "window is 0: give at least 1"),
    (["--window", -1], "window is -1: give at least 1"),
    (["--length", 0], "length is 0: give at least 1"),
    (["--hidden", 0], "hidden is 0: give at least 1"),
    (["--subsample", 0], "subsample is 0.0: give a finite number above 0"),
    (["--subsample", -1], "subsample is -1.0: give a finite number above 0"),
    (["--subsample", "nan"], "subsample is nan: give a finite number above 0"),
    (["--noise-power", "nan"], "--noise-power is nan: give a finite number"),
    (["--noise-power", 500], "noise-power 500"),
    (["--held-out", 1], "held-out is 1.0: give a share"),
    (["--held-out", "nan"], "held-out is nan: give a share"),
    (["--held-out", 1e-9], "of 600 sentences (lines), which is none"),
    (["--batch-size", 10_000], "batch_size is 10000, but the data have 375 rows"),
    (["--patience", 1], "give valid data"),
]


@pytest.mark.parametrize(("flags", "sentence"), MISTAKES, ids=lambda x: " ".join(map(str, x)))
def test_mistakes_are_a_sentence(corpus, tmp_path, capsys, flags, sentence):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    flags = [tmp_path / f if f in (*FILES, "none.txt") else f for f in flags]
    data = [] if "--data" in flags else ["--data", corpus]
    with pytest.raises(SystemExit) as stop:
        run("fit", "skipgram", *data, *FLAGS, *flags, "--out", tmp_path / "run")
    assert stop.value.code == 2
    said = re.sub(r".*\r", "", capsys.readouterr().err).strip().splitlines()
    assert sentence in said[-1]
    assert not (tmp_path / "run").exists()


def test_a_step_is_the_sum_of_word2vecs(corpus):
    """lr · (y − σ(u · v)) · v for each pair, of 4 rows; no row of these goes beyond its reach."""
    options = skipgram.Options(data=str(corpus), hidden=8, length=16, batch_size=4, shared=5)
    recipe = skipgram.build(options)
    torch.nn.init.uniform_(recipe.model.contrast.score.vectors.table, -0.1, 0.1)
    u, v = (p.detach().clone() for p in recipe.model.parameters())
    batch = recipe.train.rows(slice(0, 4))
    words, expected = batch["words"], torch.zeros_like(u)
    for row, i in itertools.product(range(4), range(5, 21)):
        c = words[row, i]
        for j in range(i - 5, i + 6):
            if j != i and batch["sentence"][row, i] == batch["sentence"][row, j]:
                often = (6 - abs(i - j)) / 5 * options.learning_rate
                expected[c] += often * (1 - (u[c] @ v[words[row, j]]).sigmoid()) * v[words[row, j]]
                for w in batch["noise"][row]:  # 5, as many as k
                    expected[c] -= often * (u[c] @ v[w]).sigmoid() * v[w]
    done = Program(recipe.model, recipe.guide)
    done.initialise(batch, len(recipe.train))
    backward(recipe.estimator, done, batch)
    recipe.optimizer(list(recipe.model.parameters())).step()
    assert 0 < expected.norm(dim=1).max() < skipgram.REACH
    moved = recipe.model.contrast.encode.table - u
    assert torch.allclose(moved, expected, rtol=1e-10, atol=1e-14)


def test_audit_of_sparse_gradients(corpus, tmp_path, capsys):
    """At the start and after a step of the recipe's own optimizer."""
    chosen = ["--estimators", "Trace_ELBO", "LeaveOneOut:2", "--samples", 10, "--at", 0, 1]
    small = ["--hidden", 2, "--length", 16, "--batch-size", 8, "--bayesian"]
    run("audit", "skipgram", "--data", corpus, *small, *chosen, "--out", tmp_path)
    told = capsys.readouterr().out
    assert "left out" not in told
    assert told.count("LeaveOneOut:2") == told.count("Trace_ELBO") == 2
    assert (tmp_path / "audit.nc").exists()
