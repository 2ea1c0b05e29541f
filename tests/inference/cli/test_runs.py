"""Commands on runs that there are, and on many: posterior, compare --under, sweep."""

import json
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


GRID = ("--learning-rate", 1e-3, 0.01, "--latent-dim", 2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_fits_a_grid_and_goes_on(jobs, tmp_path, capsys):
    sweep = ("sweep", "vae", "--hidden", 8, "--epochs", 2, "--jobs", jobs, "--out", tmp_path)
    run(*sweep, *GRID[:3])  # one of them alone: its directory is "run"
    run(*sweep, *GRID)
    printed = capsys.readouterr().out
    names = [f"learning-rate={r},latent-dim={d}" for r in (0.001, 0.01) for d in (2, 3)]
    figures = json.loads((tmp_path / "sweep.json").read_text())
    assert list(figures) == names
    assert all("test ELBO" in f for f in figures.values())
    assert all(f"{name}: test ELBO -" in printed for name in names)
    assert (tmp_path / "comparison.png").exists()
    config = json.loads((tmp_path / names[1] / "config.json").read_text())["recipe"]
    assert (config["latent_dim"], config["learning_rate"]) == (3, 0.001)
    kept = {name: (tmp_path / name / "checkpoint.pt").stat().st_mtime_ns for name in names}
    run(*sweep, *GRID)
    now = {name: (tmp_path / name / "checkpoint.pt").stat().st_mtime_ns for name in names}
    assert now == kept


def test_a_run_that_fails_does_not_end_the_sweep(tmp_path, capsys):
    fast = ("--hidden", 8, "--epochs", 1, "--jobs", 1, "--out", tmp_path)
    run(
        "sweep",
        "vae",
        *fast,
        "--likelihood",
        "gaussian",
        "bernoulli",
        "--learning-rate",
        1e-3,
        1e30,
    )
    printed = capsys.readouterr().out
    assert "learning-rate=1e+30,likelihood=gaussian: the scale of a Normal" in printed
    assert "learning-rate=0.001,likelihood=bernoulli: test ELBO -" in printed


def test_an_option_given_twice_is_refused(tmp_path, capsys):
    again = ("sweep", "vae", "--latent-dim", 2, 2, "--out", tmp_path)
    assert "--latent-dim: give one or more values, each once" in refused(capsys, *again)
