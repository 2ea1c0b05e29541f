"""Run.load: a finished run on another day predicts what it predicted, and is what it was."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from inference import Run, UserError, fit
from inference.cli.main import main
from inference.results.arviz_versions import arviz
from inference.results.report import over_seeds
from tests.support.examples import global_only, local
from tests.support.training import interrupted

X = torch.linspace(-2, 2, 60, dtype=torch.float64).reshape(20, 3)
Y = X @ X.new_tensor([1.0, -2.0, 0.5])


def regression(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("data", 20, subsample=x):
        pyro.sample("y", dist.Normal((w * x).sum(-1), 0.3), obs=y)


def fitted(directory, **options):
    adam = partial(torch.optim.Adam, lr=0.02)
    options = {"epochs": 4, "batch_size": 8, "seeds": [3, 5], "precision": "float64"} | options
    guide = AutoNormal(regression)
    data = {"x": X, "y": Y}
    return fit(regression, guide, data, None, adam, directory=directory, progress=False, **options)


def loaded(directory, *others):
    return Run.load(directory, regression, AutoNormal(regression), *others)


def test_a_run_is_read_back_whole(tmp_path):
    run, again = fitted(tmp_path), loaded(tmp_path)
    assert again.seeds == [3, 5]
    for seed in (3, 5):
        was, now = run.program(seed).values(), again.program(seed).values()
        assert was.keys() == now.keys()
        assert all(torch.equal(was[name], now[name]) for name in was)
    first, second = (again.program(s).values()["guide.locs.w"] for s in (3, 5))
    assert not torch.equal(first, second)
    assert again.trace["svi"].to_dataset().identical(run.trace["svi"].to_dataset())
    assert again.config["batch_size"] == 8
    assert again.config["versions"]["torch"] == torch.__version__


def test_printed_it_says_its_final_bounds_and_it_draws_itself(tmp_path):
    run = fitted(tmp_path)
    assert "12 steps of 2 seeds" in " ".join(str(run).split())
    last = float(run.trace["svi"]["elbo"][:, -1].mean())
    assert f"elbo, training, nats per datum {last:.3f}" in " ".join(str(run).split())
    assert str(run) == str(loaded(tmp_path))
    run.plot(str(tmp_path / "a.svg"))
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_new_rows_are_predicted_as_before(tmp_path):
    run, again = fitted(tmp_path), loaded(tmp_path)
    new = {"x": X[:7] * 3}
    for seed in (None, 5):
        was, now = (r.predict(new, 50, seed) for r in (run, again))
        assert was.sizes["data"] == 7
        np.testing.assert_array_equal(was["y"], now["y"])
    assert "posterior" not in again.trace.children
    mean = again.predict(new, 4000)["y"].mean(("chain", "draw")).to_numpy()
    w = again.program().values()["guide.locs.w"]
    np.testing.assert_allclose(mean, new["x"] @ w, atol=6 * 3 / 4000**0.5)


def test_seeds_go_by_their_label(tmp_path):
    run = fitted(tmp_path)
    with pytest.raises(UserError, match=r"no seed 0: give one of \[3, 5\]"):
        run.predict({"x": X}, seed=0)


def test_the_training_data_are_needed_only_for_themselves(tmp_path):
    fitted(tmp_path)
    with pytest.raises(UserError, match="loaded without its data"):
        loaded(tmp_path).posterior()
    with pytest.raises(UserError, match="not the data of the fit"):
        loaded(tmp_path, {"x": X, "y": Y + 1})
    tree = loaded(tmp_path, {"x": X, "y": Y}).posterior(20)
    assert tree["log_likelihood"]["y"].shape == (1, 20, 20)
    assert loaded(tmp_path).trace["posterior"]["w"].shape == (1, 20, 3)  # it was written


def test_a_finished_run_resumed_keeps_its_posterior(tmp_path):
    fitted(tmp_path).posterior(20)
    assert "posterior" in fitted(tmp_path, resume=True).trace.children
    longer = fitted(tmp_path, resume=True, epochs=6)
    assert "posterior" not in longer.trace.children  # it would be of other parameters


@pytest.mark.parametrize("make", [local, global_only])
def test_programs_of_every_kind_come_back(make, tmp_path):
    model, guide, data = make()
    fit(model, guide, data, steps=5, directory=tmp_path, progress=False, precision="float64")
    before = Run.load(tmp_path, model, guide).params
    for parameter in before.values():
        assert parameter.isfinite().all()
    other = make()
    pyro.clear_param_store()
    again = Run.load(tmp_path, *other[:2])
    assert all(torch.equal(again.params[n], v) for n, v in before.items())


def test_another_program_is_refused(tmp_path):
    model, guide, data = global_only()
    fit(model, guide, data, steps=2, directory=tmp_path, progress=False)

    def student(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 40, subsample=x):
            pyro.sample("x", dist.StudentT(3.0, w, 1.0), obs=x)

    with pytest.raises(UserError, match=r"sites, x = Normal\(scale=1\), not StudentT\(df=3"):
        Run.load(tmp_path, student, guide)
    with pytest.raises(UserError, match="is of a program of yours: give it"):
        Run.load(tmp_path)
    with pytest.raises(UserError, match=r"holds no fit: config\.json is missing"):
        Run.load(tmp_path / "other", model, guide)


def test_a_fixed_size_asks_for_the_data(tmp_path):
    x = torch.randn(40)

    def model(x):
        m = pyro.param("m", torch.zeros(40))
        with pyro.plate("data", 40):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    guide = lambda x: None  # noqa: E731
    fit(model, guide, {"x": x}, steps=2, directory=tmp_path, progress=False, precision="float64")
    with pytest.raises(UserError, match=r"does not run on 2 rows of its 40.*data="):
        Run.load(tmp_path, model, guide)
    assert Run.load(tmp_path, model, guide, {"x": x}).params["m"].shape == (40,)


def test_an_unfinished_run_is_said_to_be_one(tmp_path, monkeypatch):
    model, guide, data = global_only()
    options = {"model": model, "guide": guide, "data": data, "steps": 9, "progress": False}
    interrupted(5, monkeypatch, directory=tmp_path, **options)
    with pytest.raises(UserError, match="has not ended: the same call with resume=True"):
        Run.load(tmp_path, model, guide)


def test_arviz_takes_it(tmp_path):
    run = fitted(tmp_path, epochs=40)
    found = arviz().loo(run.inference_data())
    assert found.n_data_points == 20
    assert run.trace["posterior"].sizes["draw"] == 1000


ANOTHER_DAY = """
import sys, numpy as np
from inference import Run
run = Run.load(sys.argv[1])
np.save(sys.argv[2], run.predict({"x": run.data.tensors["x"][:5]}, 20)["x"])
"""


def test_a_recipe_s_run_needs_its_directory_alone(tmp_path):
    fast = ["--epochs", "2", "--hidden", "8", "--latent-dim", "3", "--seeds", "2"]
    main(["fit", "vae", *fast, "--out", str(tmp_path / "vae")])
    run = Run.load(tmp_path / "vae")
    assert run.programs[0].model.latent_dim == 3
    assert len(run.valid) == 250
    mine = run.predict({"x": run.data.tensors["x"][:5]}, 20)["x"]
    script = [sys.executable, "-c", ANOTHER_DAY, str(tmp_path / "vae"), str(tmp_path / "x.npy")]
    assert subprocess.run(script).returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), mine)


def test_what_a_directory_names_is_not_run(tmp_path):
    main(["fit", "vae", "--epochs", "1", "--hidden", "8", "--out", str(tmp_path)])
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    config["recipe"]["name"] = str(tmp_path / "evil.py")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="which is not run unasked"):
        Run.load(tmp_path)
    config["recipe"] |= {"name": "captioner", "encoder": "os:getcwd"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="names code, encoder = os:getcwd"):
        Run.load(tmp_path)
    config["recipe"] = {"name": "vae", "latent_dim": -1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="latent-dim is -1"):
        Run.load(tmp_path)


def test_params_are_constrained(tmp_path):
    """An autoguide's scales under their own name, beside what is optimised."""
    params = fitted(tmp_path, seeds=1).params
    w, scale = ("guide.locs.w", "guide.scales.w")
    assert set(params) == {w, scale, f"{w}_unconstrained", f"{scale}_unconstrained"}
    optimised = params[f"{scale}_unconstrained"]
    torch.testing.assert_close(params[scale], torch.nn.functional.softplus(optimised))


def test_figures_of_several_seeds_are_means_with_the_error_between_seeds():
    one = {"error %": torch.tensor([0.0, 100.0, 0.0, 0.0]), "scale": 2.0}
    other = {"error %": torch.tensor([100.0, 100.0, 0.0, 100.0]), "scale": 4.0}
    found = over_seeds([one, other])
    assert found["error %, 2 seeds"] == (50.0, 25.0)  # of 25 and 75: deviation 35.36 / √2
    assert found["scale, 2 seeds"] == (3.0, 1.0)
    assert over_seeds([one])["error %"] == (25.0, 25.0)  # the error over data, of one seed
