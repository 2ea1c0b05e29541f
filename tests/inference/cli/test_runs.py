"""Commands on runs that there are: posterior, compare --under."""

from pathlib import Path

import pytest

from inference.cli.main import main
from inference.results.traces import read_trace

FAST = ["--hidden", "8", "--latent-dim", "2"]
REGRESSION = Path(__file__).parents[2] / "support" / "recipes" / "regression.py"


def run(*arguments):
    main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    run("fit", "vae", *FAST, "--epochs", 2, "--out", out / "vae")
    run(
        "fit",
        "vae",
        *FAST,
        "--epochs",
        2,
        "--estimator",
        "IWAE",
        "--particles",
        3,
        "--out",
        out / "iwae",
    )
    return out


def test_a_posterior_from_the_shell(two, capsys):
    run("posterior", two / "vae", "--draws", 30, "--rows", 20)
    printed = capsys.readouterr().out
    assert "log_likelihood" in printed
    assert "k-hat" in printed
    tree = read_trace(two / "vae")
    assert tree["posterior"]["z"].shape == (1, 30, 20, 2)
    assert tree["svi"].sizes["seed"] == 1
    run("posterior", two / "vae", "--draws", 30, "--held-out", "--rows", 7)
    assert read_trace(two / "vae")["observed_data"]["x"].shape == (7, 1, 8, 8)


def test_different_bounds_are_put_under_one(two, tmp_path, capsys):
    both = two / "vae", two / "iwae", "--out", tmp_path
    run("compare", *both)
    printed = " ".join(capsys.readouterr().out.split())
    assert "not ranked" in printed
    assert "L_3" in printed
    run("compare", *both, "--under", "L_5")
    printed = " ".join(capsys.readouterr().out.split())
    assert "not ranked" not in printed
    assert printed.count("L_5") == 2


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_recipe_of_one_s_own_is_named(tmp_path, capsys):
    run("fit", REGRESSION, "--epochs", 3, "--out", tmp_path)
    capsys.readouterr()
    assert "is not run unasked: name it, --recipe" in refused(capsys, "posterior", tmp_path)
    run("posterior", tmp_path, "--recipe", REGRESSION, "--draws", 20)
    assert read_trace(tmp_path)["posterior"].sizes["draw"] == 20


def test_a_mistake_is_one_sentence(two, tmp_path, capsys):
    assert "holds no fit" in refused(capsys, "posterior", tmp_path)
    assert "has no seed 4: give one of [0]" in refused(
        capsys, "posterior", two / "vae", "--seed", 4
    )
    assert "no bound 'L'" in refused(capsys, "compare", two / "vae", two / "iwae", "--under", "L")
    assert "--draws is 0" in refused(capsys, "posterior", two / "vae", "--draws", 0)
    assert "not a device" in refused(capsys, "posterior", two / "vae", "--device", "x")
