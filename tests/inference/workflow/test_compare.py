"""compare: bounds, errors, differences and times to a level, on traces made for the purpose."""

import numpy as np
import pytest
import torch
import xarray as xr
from pyro.infer import RenyiELBO, Trace_ELBO

from inference import Run, UserError, compare, fit
from inference.engine.training.identity import bound_of
from inference.estimators import (
    IWAE,
    VIMCO,
    DecayingAverage,
    GumbelSoftmax,
    Pathwise,
    ReweightedWakeSleep,
)
from inference.results import plots
from inference.results.traces import read_trace, write_trace
from inference.workflow.compare import compare_directories
from tests.support.examples import local


def trace(final, noise=0.1, seeds=2, steps=400, apart=0.0, held_out=None, rate=1.0):
    rng = np.random.default_rng(0)
    step = np.arange(1, steps + 1)
    curve = final - 50 * np.exp(-rate * step / 40)
    elbo = curve + noise * rng.standard_normal((seeds, steps)) + apart * np.arange(seeds)[:, None]
    seconds = np.broadcast_to(step * 0.01, (seeds, steps))
    variables = {"elbo": (("seed", "step"), elbo), "seconds": (("seed", "step"), seconds)}
    groups = {"svi": xr.Dataset(variables, coords={"seed": range(seeds), "step": step})}
    if held_out is not None:
        bounds = np.full((seeds, 2), held_out) - [[1.0, 0.0]] * seeds
        both = {
            "elbo": (("seed", "step"), bounds),
            "elbo_error": (("seed", "step"), 0 * bounds + 0.3),
        }
        groups["held_out"] = xr.Dataset(both, coords={"seed": range(seeds), "step": [200, 400]})
    return xr.DataTree.from_dict(groups)


def test_difference_and_its_error():
    result = compare({"a": trace(-100), "b": trace(-101, apart=0.2)})
    best, worse = result.rows
    assert (best.name, worse.name) == ("a", "b")
    assert worse.difference == pytest.approx(-0.9, abs=0.05)
    assert worse.between_seeds == pytest.approx(0.1, abs=0.02)
    assert best.monte_carlo == pytest.approx(0.1 / 20**0.5 / 2**0.5, rel=0.4)
    assert worse.difference_error == pytest.approx(np.hypot(0.1, best.between_seeds), rel=0.2)


def test_one_seed_falls_back_on_the_noise():
    result = compare({"a": trace(-100, seeds=1), "b": trace(-101, seeds=1)})
    assert np.isnan(result.rows[0].between_seeds)
    assert result.rows[1].difference_error == pytest.approx(0.1 * (2 / 20) ** 0.5, rel=0.4)


def test_time_to_a_level():
    result = compare({"slow": trace(-100, 0), "fast": trace(-100, 0, rate=4.0)}, level=-110)
    times = {row.name: row.steps for row in result.rows}
    exact = 40 * np.log(5)  # 50 exp(-t/40) = 10
    assert times["slow"] == pytest.approx(exact, abs=4)
    assert times["fast"] == pytest.approx(exact / 4, abs=4)
    assert np.isnan(compare({"a": trace(-100), "b": trace(-99)}, level=0.0).rows[0].seconds)


def test_held_out_bounds_are_preferred_where_all_have_them():
    result = compare({"a": trace(-100, held_out=-120), "b": trace(-101, held_out=-110)})
    assert result.held_out
    assert [(r.name, r.bound) for r in result.rows] == [("b", -110), ("a", -120)]
    assert result.rows[0].monte_carlo == pytest.approx(0.3 / 2**0.5)
    assert not compare({"a": trace(-100, held_out=-120), "b": trace(-101)}).held_out


def test_tree_has_a_run_dim_and_pads_shorter_runs():
    tree = compare({"a": trace(-100, steps=100), "b": trace(-100)}).tree
    assert tree["svi"]["elbo"].dims == ("run", "seed", "step")
    assert int(tree["svi"]["elbo"].sel(run="a").notnull().sum()) == 200


def test_from_directories(tmp_path, capsys):
    for name, final in (("a", -100), ("b", -101)):
        write_trace(trace(final), tmp_path / name / "trace.nc")
    compare_directories([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    assert read_trace(tmp_path / "out" / "comparison.nc")["svi"].sizes["run"] == 2
    assert "-101.0" in capsys.readouterr().out


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(UserError, match="two or more runs"):
        compare({"a": trace(-1)})
    with pytest.raises(UserError, match="does not exist: fit first"):
        compare({"a": trace(-1), "b": tmp_path})
    with pytest.raises(UserError, match="no group 'svi'"):
        compare({"a": trace(-1), "b": xr.DataTree()})
    (tmp_path / "trace.nc").write_bytes(b"not netCDF")
    with pytest.raises(UserError, match="not a readable netCDF"):
        compare({"a": trace(-1), "b": tmp_path})


def test_runs_without_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="have no names"):
        compare(["a", "b"])


def a_fit(estimator, directory=None, seeds=1, **data):
    model, guide, _ = local(40)
    x = torch.linspace(-1, 3, 40)
    data = {"data": {"x": x}, "valid": {"x": x.flip(0) / 2}} | data
    how = {"epochs": 3, "seeds": seeds, "progress": False, "precision": "float64"}
    return fit(model, guide, estimator=estimator, directory=directory, **how, **data)


def test_bounds_of_different_kinds_are_not_ranked():
    runs = {"elbo": a_fit(Trace_ELBO()), "many": a_fit(IWAE(5)), "same": a_fit(Pathwise())}
    mixed = compare(runs)
    assert not mixed.ranked
    assert [row.name for row in mixed.rows] == ["elbo", "many", "same"]
    assert [row.kind for row in mixed.rows] == ["ELBO", "L_5", "ELBO"]
    assert all(np.isnan(row.difference) for row in mixed.rows)
    assert "not ranked" in mixed.table().caption
    assert all(name in str(mixed) for name in ("many", "L_5", "not ranked"))
    assert compare({n: runs[n] for n in ("elbo", "same")}).ranked


def test_the_picture_says_which_bound_each_was_trained_on(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure))
    one, other = trace(-100), trace(-101)
    other["svi"].attrs["bound"] = "relaxed ELBO"
    one["svi"].attrs["bound"] = "ELBO"
    compare({"a": one, "b": other}).plot(tmp_path / "mixed.png")
    compare({"a": one, "b": one}).plot(tmp_path / "alike.png")
    said = [[t.get_text() for t in f.axes[0].get_legend().get_texts()] for f in drawn]
    assert said == [["a, of its ELBO", "b, of its relaxed ELBO"], ["a", "b"]]


def test_bounds_of_different_data_are_not_ranked():
    other = {"data": {"x": torch.ones(40)}}
    both = compare({"a": a_fit(None), "b": a_fit(None, **other)})
    assert both.ranked  # the held-out data are the same
    no_valid = {"valid": None}
    apart = compare({"a": a_fit(None, **no_valid), "b": a_fit(None, **no_valid, **other)})
    assert not apart.ranked
    assert len({row.kind for row in apart.rows}) == 2
    assert all(row.kind.startswith("ELBO, data ") for row in apart.rows)


def test_one_bound_of_all_is_estimated_on_held_out_data(tmp_path):
    runs = {"elbo": a_fit(None, tmp_path, seeds=2), "many": a_fit(IWAE(5))}
    found = compare(runs, under="L_50")
    assert found.ranked
    assert {row.kind for row in found.rows} == {"L_50"}
    by_name = {row.name: row for row in found.rows}
    program, x = runs["many"].programs[0], runs["many"].valid.tensors["x"]
    m = program.values()["model.m"]
    exact = torch.distributions.Normal(m, 2**0.5).log_prob(x).mean()  # L_50 is below, a little
    assert -0.05 < by_name["many"].bound - float(exact) < 0.01
    loaded = Run.load(tmp_path, *local(40)[:2], valid={"x": x})
    again = compare({"elbo": loaded, "many": runs["many"]}, under="L_50")
    assert [row.bound for row in again.rows] == [row.bound for row in found.rows]
    assert 0 < by_name["elbo"].monte_carlo < 0.3


def test_a_bound_that_cannot_be_estimated_is_said():
    run = a_fit(None)
    for under, sentence in (("L_x", "no bound 'L_x'"), ("L_0", "no bound"), ("elbo", "no bound")):
        with pytest.raises(UserError, match=sentence):
            compare({"a": run, "b": run}, under=under)
    with pytest.raises(UserError, match="is a trace alone"):
        compare({"a": run, "b": run.trace}, under="ELBO")
    with pytest.raises(UserError, match="no held-out data to compare on"):
        compare({"a": run, "b": a_fit(None, valid=None)}, under="ELBO")


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (Trace_ELBO(), "ELBO"),
        (IWAE(1), "ELBO"),
        (VIMCO(7), "L_7"),
        (ReweightedWakeSleep(4), "L_4"),
        (RenyiELBO(alpha=0, num_particles=3), "L_3"),
        (RenyiELBO(alpha=0.5, num_particles=3), "RenyiELBO(alpha=0.5, num_particles=3)"),
        (GumbelSoftmax(), "relaxed ELBO"),
        (GumbelSoftmax(hard=True), "ELBO"),
        (DecayingAverage(), "ELBO"),
    ],
)
def test_which_bound_an_estimator_s_value_is(estimator, kind):
    assert bound_of(estimator) == kind
