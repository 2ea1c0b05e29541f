"""The command line as a person meets it: fit, compare, list, one sentence for a mistake."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.cli import registry
from inference.cli.audit import audited
from inference.cli.build import build_recipe
from inference.cli.main import main
from inference.cli.options import audit_options
from inference.estimators import MovingAverage
from inference.recipes.images import vae as vae_recipe
from inference.recipes.options import recipe_identity
from inference.results.traces import read_trace

PROGRAMS = Path(__file__).parents[2] / "support" / "recipes"
FAST = ["--epochs", "3", "--hidden", "16"]


def run(*arguments):
    main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "vae"
    run("fit", "vae", *FAST, "--seeds", 2, "--test-samples", 20, "--out", out)
    return out


def test_fit_leaves_a_whole_run(vae):
    names = {path.name for path in vae.iterdir() if path.name != ".lock"}
    assert names == {
        "trace.nc",
        "checkpoint.pt",
        "config.json",
        "figures.json",
        "elbo.png",
        "reconstructions.png",
        "samples.png",
    }
    figures = json.loads((vae / "figures.json").read_text())
    assert figures["test L_20"]["mean"] > figures["test ELBO"]["mean"]
    assert read_trace(vae)["svi"].sizes["seed"] == 2
    assert json.loads((vae / "config.json").read_text())["recipe"]["hidden"] == [16]


def test_compare(vae, tmp_path, capsys):
    run("fit", "vae", *FAST, "--latent-dim", 2, "--out", tmp_path / "small")
    run("compare", vae, tmp_path / "small", "--out", tmp_path)
    printed = capsys.readouterr().out
    assert "held out" in printed
    assert "small" in printed
    assert (tmp_path / "comparison.png").exists()


def test_another_configuration_is_refused(vae, capsys):
    with pytest.raises(SystemExit) as stop:
        run("fit", "vae", *FAST, "--seeds", 2, "--latent-dim", 7, "--resume", "--out", vae)
    assert stop.value.code == 2
    assert "holds a fit with latent_dim = 20, not 7" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["regression", "mixture", "poisson"])
def test_somebody_else_s_program(name, tmp_path):
    file = PROGRAMS / f"{name}.py"
    assert len(file.read_text().splitlines()) <= 30
    extra = []
    if name == "poisson":
        rng = np.random.default_rng(0)
        age = rng.standard_normal(300)
        rows = zip(age, rng.poisson(np.exp(1 + 0.5 * age)), strict=True)
        csv = tmp_path / "visits.csv"
        csv.write_text("age,count\n" + "".join(f"{a},{c}\n" for a, c in rows))
        extra = ["--data", csv]
    run("fit", file, *extra, "--epochs", 60, "--learning-rate", 0.05, "--out", tmp_path / "run")
    elbo = read_trace(tmp_path / "run")["svi"]["elbo"].to_numpy()[0]
    best = {"regression": -1.2, "mixture": -4.0, "poisson": -2.1}[name]
    assert elbo[-20:].mean() > best > elbo[:2].mean()


def test_list_names_the_recipes(capsys):
    run("list")
    assert "vae" in capsys.readouterr().out


VECTORS = "5 2\nking 3 1\nqueen 1 3\nman 1 0\nwoman 0 1\n[dog] -1 -1\n"


def test_neighbours_of_words_and_of_a_sum(tmp_path, capsys):
    (tmp_path / "vectors.txt").write_text(VECTORS)
    for given in (tmp_path, tmp_path / "vectors.txt"):
        run("neighbours", given, "man", "king")
        man, king = re.split("king +cosine", capsys.readouterr().out)  # a heading
        assert " ".join(man.replace("─", "").split()) == (
            "man cosine king 0.949 queen 0.316 woman 0.000 [dog] -0.707"
        )
        assert " ".join(king.replace("─", "").split()) == (
            "man 0.949 queen 0.600 woman 0.316 [dog] -0.894"
        )
    run("neighbours", tmp_path, "king", "-", "man", "+", "woman")
    printed = capsys.readouterr().out.split()
    assert printed[:6] == ["king", "-", "man", "+", "woman", "cosine"]
    assert printed[7:9] == ["queen", "0.936"]  # (1, 3) and (3, 1) / √10 − (1, 0) + (0, 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["kimg"], "no vector for 'kimg' among 5 words: did you mean king?"),
        (["king", "zzz"], "no vector for 'zzz' among 5 words: give another word"),
        ([], "no words: give one or more, or a sum such as king - man + woman"),
    ],
)
def test_no_neighbours(words, sentence, tmp_path, capsys):
    (tmp_path / "vectors.txt").write_text(VECTORS)
    with pytest.raises(SystemExit) as stop:
        run("neighbours", tmp_path, *words)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.err == f"lowerbound: {sentence}\n"
    assert not printed.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "no command 'train'"),
        (["fit", "nothing"], "no recipe 'nothing'"),
        (["fit", "vae", "--data", "nowhere"], "no data 'nowhere'"),
        (["fit", "vae", "--device", "cuda", "--epochs", "1"], "torch finds no GPU"),
        (["compare", "one"], "two or more runs"),
        (["audit", "sbn", "--data", "digits", "--estimators", "RELAX"], "no estimator 'RELAX'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, capsys, tmp_path, request):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    extra = ["--out", str(tmp_path / "x")] if len(arguments) > 2 else []
    with pytest.raises(SystemExit) as stop:
        main([*arguments, *extra])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_label_column_is_no_image(tmp_path, capsys):
    np.savez(tmp_path / "labels.npz", x=np.arange(50))
    with pytest.raises(SystemExit) as stop:
        run("fit", "vae", "--data", tmp_path / "labels.npz", "--out", tmp_path / "run")
    assert stop.value.code == 2
    assert "needs a column 'x' of images" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_not_touched_unasked(vae, capsys):
    before = (vae / "config.json").stat().st_mtime_ns
    with pytest.raises(SystemExit) as stop:
        run("fit", "vae", *FAST, "--out", vae)
    assert stop.value.code == 2
    assert "--resume goes on with it" in capsys.readouterr().err
    assert (vae / "config.json").stat().st_mtime_ns == before


def test_a_recipe_with_a_syntax_error_names_the_line(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("import torch\ndef build(:\n")
    with pytest.raises(SystemExit) as stop:
        run("fit", tmp_path / "mine.py")
    assert stop.value.code == 2
    assert "mine.py, line 2: invalid syntax" in capsys.readouterr().err


def test_a_recipe_without_build_says_what_is_missing(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from inference.recipes.contract import Training as Options\n"
    )
    with pytest.raises(SystemExit):
        run("fit", tmp_path / "mine.py")
    assert "defines no 'build'" in capsys.readouterr().err


def test_audit_leaves_out_what_refuses_and_keeps_a_picture(tmp_path, capsys):
    run(
        *("audit", "sbn", "--data", "digits", "--latent-dims", 6, "--batch-size", 8),
        *("--samples", 5, "--estimators", "Pathwise", "DisARM", "LeaveOneOut:2"),
        *("--out", tmp_path),
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "Pathwise: left out. Pathwise needs reparameterised sites" in printed
    assert "LeaveOneOut" in printed
    assert (tmp_path / "audit.png").exists()
    assert (tmp_path / "audit.nc").exists()


def test_audit_gives_the_score_function_the_recipes_baseline(tmp_path, capsys):
    run(
        *("audit", "sbn", "--data", "digits", "--latent-dims", 6, "--batch-size", 8),
        *("--samples", 30, "--baseline", "average", "--estimators", "ScoreFunction", "DisARM"),
        *("--out", tmp_path),
    )
    printed = capsys.readouterr().out
    assert "ScoreFunction, average" in printed
    assert "DisARM, average" not in printed
    sbn = registry.find("sbn")
    options = audit_options(sbn.options)(data="digits", latent_dims=(6,), baseline="average")
    _, estimator = audited(build_recipe(sbn, options), options, "ScoreFunction:4", 1)
    assert isinstance(estimator.baseline, MovingAverage)
    assert estimator.num_particles == 4


@pytest.mark.parametrize("network", ["linear", pytest.param("nonlinear", marks=pytest.mark.slow)])
def test_a_sigmoid_belief_network_learns(network, tmp_path):
    out = tmp_path / "sbn"
    run(
        *("fit", "sbn", "--data", "digits", "--latent-dims", 12, 6, "--network", network),
        *("--batch-size", 32, "--epochs", 8, "--learning-rate", 0.01, "--out", out),
    )
    elbo = read_trace(out)["svi"]["elbo"].to_numpy()[0]
    assert elbo[-20:].mean() > elbo[:5].mean() + 1


@pytest.mark.parametrize(
    ("recipe", "options", "least"),
    [
        ("attention", ["--learning-rate", 0.01, "--epochs", 4], -9.0),
        ("categorical_vae", ["--learning-rate", 0.01, "--epochs", 4], -31.0),
    ],
)
def test_the_discrete_recipes_learn(recipe, options, least, tmp_path):
    run("fit", recipe, *options, "--out", tmp_path)
    assert read_trace(tmp_path)["svi"]["elbo"].to_numpy()[0, -10:].mean() > least
    assert "test ELBO" in json.loads((tmp_path / "figures.json").read_text())


@pytest.mark.parametrize("estimator", ["Pathwise", "ScoreFunction"])
def test_the_toy_finds_its_optimum_and_draws_both_gradients(estimator, tmp_path):
    run("fit", "expected_square", "--estimator", estimator, "--out", tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["θ, to be −b/a"] == pytest.approx(-1.5, abs=0.15)
    assert (tmp_path / "gradients.png").exists()


@pytest.mark.slow
def test_the_toy_of_rebar_finds_its_optimum_and_draws_five_courses(tmp_path):
    run("fit", "squared_distance", "--epochs", 150, "--learning-rate", 0.1, "--out", tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["E[(b − t)²]"] < 0.5 * figures["its least"] + 0.5 * 0.2525  # where it began
    variances = [float(v) for name, v in figures.items() if name.startswith("variance")]
    assert len(variances) == 5
    assert max(variances) == float(figures["variance, score function"])
    assert (tmp_path / "gradients.png").exists()


def test_the_courses_variance_is_the_one_on_paper():
    """Score function at θ = ½: Var = ((1 − t)⁴ + t⁴)/8 − ((1 − 2t)/4)², within 4.5 errors."""
    from inference.recipes.toys.squared_distance import (
        COPIES,
        Options,
        course,
        estimators,
    )

    torch.manual_seed(0)
    _, variances = course(estimators()["score function"], Options(epochs=1))
    t = 0.45
    exact = ((1 - t) ** 4 + t**4) / 8 - ((1 - 2 * t) / 4) ** 2
    assert abs(variances[0] - exact) < 4.5 * exact / COPIES**0.5


def test_the_toy_of_rebar_is_audited(tmp_path, capsys):
    run(
        *("audit", "squared_distance", "--samples", 5, "--out", tmp_path),
        *("--estimators", "DisARM", "Pathwise"),
    )
    assert "against the exact gradient" in " ".join(capsys.readouterr().out.split())


def refused(capsys, *arguments):
    """The one sentence with which a command ends."""
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("lowerbound: ")
    assert error.count("\n") == 1
    return error.removeprefix("lowerbound: ").strip()


NO_NUMBERS = [
    (["fit", "vae", "--seeds", 0], "--seeds is 0: give at least 1"),
    (["fit", "vae", "--particles", 0], "--particles is 0: give at least 1"),
    (["fit", "vae", "--epochs", 0], "--epochs is 0: give at least 1"),
    (["fit", "vae", "--batch-size", -3], "--batch-size is -3: give at least 1"),
    (["fit", "vae", "--patience", 0], "--patience is 0: give at least 1"),
    (
        ["fit", "vae", "--learning-rate", "nan"],
        "--learning-rate is nan: give a finite number from 0 on",
    ),
    (["fit", "vae", "--clip-norm", "nan"], "--clip-norm is nan: give a finite number above 0"),
    (["fit", "vae", "--clip-norm", -1], "--clip-norm is -1.0: give a finite number above 0"),
    (["fit", "vae", "--anneal", -1], "--anneal is -1.0: give a share from 0 to 1"),
    (["fit", "vae", "--anneal", "inf"], "--anneal is inf: give a share from 0 to 1"),
    (["fit", "vae", "--hidden", 8, -1], "--hidden is -1: give at least 1"),
    (["fit", "vae", "--latent-dim", 0], "--latent-dim is 0: give at least 1"),
    (["fit", "vae", "--test-samples", -1], "--test-samples is -1: give 0 or more"),
    (["fit", "sbn", "--latent-dims", 0], "--latent-dims is 0: give at least 1"),
    (["fit", "attention", "--patch", 0], "--patch is 0: give at least 1"),
    (["fit", "attention", "--patch", 9], "--patch is 9: give at most the 8 × 8 of an image"),
    (["fit", "squared_distance", "--target", "nan"], "--target is nan: give a finite number"),
    (["fit", "captioner", "--beam", 0], "--beam is 0: give at least 1"),
    (["audit", "vae", "--batch-size", 0], "--batch-size is 0: give at least 1"),
    (["audit", "vae", "--at", 0, -1], "--at is -1: give 0 or more"),
    (["audit", "vae", "--samples", 1], "--samples is 1: give at least 2, for a variance"),
    (["compare", "a", "b", "--level", "nan"], "--level is nan: give a finite number"),
    (["caption", "run", "a.png", "--beam", 0], "--beam is 0: give at least 1"),
    (["audit", "vae", "--estimators", "VIMCO:0"], "estimator VIMCO of 0 particles"),
]


@pytest.mark.parametrize(("arguments", "sentence"), NO_NUMBERS, ids=lambda x: " ".join(map(str, x)))
def test_a_number_that_cannot_be_is_one_sentence(arguments, sentence, tmp_path, capsys):
    out = ["--out", tmp_path / "run"] if arguments[0] != "caption" else []
    assert refused(capsys, *arguments, *out).startswith(sentence)
    assert not (tmp_path / "run").exists()


def copied(folder, name, *changes):
    """The recipe to copy, copied."""
    text = Path(vae_recipe.__file__).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    "name",
    ["random.py", *(pytest.param(n, marks=pytest.mark.slow) for n in ("torch.py", "pyro.py"))],
)
def test_a_copy_of_the_recipe_to_copy_replaces_no_module(name, tmp_path):
    before = sys.modules[name.removesuffix(".py")]
    file = copied(tmp_path, name)
    run("fit", file, *FAST, "--epochs", 1, "--out", tmp_path / "run")
    assert sys.modules[name.removesuffix(".py")] is before
    run("fit", "vae", *FAST, "--epochs", 1, "--out", tmp_path / "ours")
    mine, ours = (read_trace(tmp_path / d)["svi"]["elbo"].values for d in ("run", "ours"))
    assert (mine == ours).all()


@pytest.mark.parametrize("value", ["None", "(1, 2)"])
def test_a_build_that_returns_no_recipe(value, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from inference.recipes.contract import Training as Options\n"
        f"def build(options):\n    return {value}\n"
    )
    for command in ("fit", "audit"):
        said = refused(capsys, command, tmp_path / "mine.py")
        assert "let it return a Recipe" in said


def test_options_that_are_no_training(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("Options = dict\nbuild = print\n")
    assert "inherits Training" in refused(capsys, "fit", tmp_path / "mine.py")


def test_what_identifies_a_run():
    """The same keys as ever, so that a run begun before goes on."""
    may_change = {"out", "resume", "extend", "overwrite", "device", "features", "test_samples"}
    may_change |= {"beam", "length_penalty", "judge"}
    for name, source in registry.recipes().items():
        options = source.options()
        fields = set(vars(options)) - may_change
        assert recipe_identity(name, options).keys() == {"name", *fields}


def test_every_recipe_of_ours_has_the_options_that_its_room_declares():
    for source in registry.recipes().values():
        assert importlib.import_module(source.module).Options is source.options
