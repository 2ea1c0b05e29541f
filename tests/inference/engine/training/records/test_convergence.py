"""Fits until convergence: what settles and what does not, the mean, and closed-form posteriors."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch.distributions import constraints, kl_divergence

from inference import UserError, fit
from inference.engine.training.records import convergence
from inference.engine.training.records.convergence import (
    Diagnosis,
    Iterates,
    effective_number,
    split_r_hat,
    watched,
)
from inference.engine.training.schedules import cosine
from inference.util.files import load_checkpoint
from tests.support.examples import global_only
from tests.support.training import assert_same_runs, interrupted, same

quiet = partial(fit, progress=False, precision="float64")
N = 200


def autoregressive(length, rho, count, begin=0.0):
    """(length, count) e_t + ρ x_{t−1} about 0."""
    noise, rows = torch.randn(length, count), [torch.full((count,), begin)]
    for t in range(1, length):
        rows.append(rho * rows[-1] + noise[t])
    return torch.stack(rows)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_effective_number_of_an_autoregression(rho):
    """n (1 − ρ) / (1 + ρ), in the mean of 200 series, to 5 %."""
    found = effective_number(autoregressive(4000, rho, 200))
    expected = 4000 * (1 - rho) / (1 + rho)
    assert abs(1 / (1 / found).mean() - expected) < 0.05 * expected


def test_split_r_hat_by_hand():
    """Halves (0, 1) and (2, 5): variance 2.5 within, 4.5 of their means."""
    rows = torch.tensor([[9.0], [0.0], [1.0], [2.0], [5.0]])
    torch.testing.assert_close(split_r_hat(rows[1:]), torch.tensor([(0.5 + 4.5 / 2.5) ** 0.5]))
    torch.testing.assert_close(split_r_hat(rows), split_r_hat(rows[1:]))


@pytest.mark.parametrize("which", ["r_hat", "effective", "error", None])
def test_one_coordinate_beyond_one_threshold_is_enough(which):
    """Two coordinates just within all; then one of them just beyond."""
    found = {"r_hat": [1.0, 1.1], "effective": [25.0, 400.0], "error": [0.0, 0.099]}
    beyond = {"r_hat": [1.0, 1.11], "effective": [24.9, 400.0], "error": [0.0, 0.1]}
    if which is not None:
        found[which] = beyond[which]
    diagnosis = Diagnosis(**{name: torch.tensor(values) for name, values in found.items()})
    assert diagnosis.settled == (which is None)


def when_settled(rows, every=10):
    """(The step at which these iterates have settled or None, their record)."""
    iterates = Iterates()
    for step, row in enumerate(rows, 1):
        iterates.observe({"a": row[:1], "b": row[1:].reshape(1, -1)}, step)
        if step % every == 0 and iterates.settled(step):
            return step, iterates
    return None, iterates


def test_wandering_about_a_point_settles_and_its_mean_is_near():
    """From 30 standard deviations away: the mean is within 4 of the errors that it says."""
    rows = 5 + 0.02 * autoregressive(6000, 0.95, 3, begin=100.0)
    step, iterates = when_settled(rows)
    assert step is not None
    assert f"converged after {step:,} steps" in iterates.verdict
    mean = torch.cat([part.reshape(-1) for part in iterates.mean])
    error = Diagnosis.of(torch.stack(iterates.rows)).error
    assert ((mean - 5).abs() < 4 * error).all()
    assert (error < 0.1 * 0.02 / (1 - 0.95**2) ** 0.5 * 3).all()


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_drift_does_not_settle(noise):
    """0.01 a step, in one coordinate of three, the others white noise."""
    rows = torch.randn(3000, 3) * torch.tensor([noise, 1.0, 1.0])
    rows[:, 0] += 0.01 * torch.arange(3000)
    step, iterates = when_settled(rows)
    assert step is None
    assert "not converged after" in iterates.verdict
    assert "(a)" in iterates.verdict


def test_random_walks_do_not_settle():
    found = [when_settled(torch.randn(1500, 2).cumsum(0))[0] for _ in range(8)]
    assert found == [None] * 8


def test_what_does_not_move_has_settled():
    step, iterates = when_settled(torch.full((500, 3), 0.7))
    assert step == 2 * convergence.SEGMENT
    for mean in iterates.mean:
        torch.testing.assert_close(mean, torch.full_like(mean, 0.7))


def test_the_mean_is_over_the_window(monkeypatch):
    """By hand, from all iterates: rows of twice the stride weigh as two of before."""
    monkeypatch.setattr(convergence, "SEGMENT", 20)
    iterates, rows = Iterates(), torch.randn(180, 2)
    for step, row in enumerate(rows, 1):
        iterates.observe({"a": row}, step)
        if step == 50:  # the first 20 steps are in no window
            assert iterates._windows() == [20]
            torch.testing.assert_close(iterates._mean(20)[0], rows[20:50].mean(0))
    assert iterates.stride == 4  # thinned after 60 and after 140 steps
    before, now = rows[60:140][1::2], rows[140:][3::4]
    torch.testing.assert_close(torch.stack(iterates.rows), torch.cat([before[1::2], now]))
    assert iterates._windows() == [0]
    by_hand = (20 * before.mean(0) + now.sum(0)) / 30
    torch.testing.assert_close(iterates._mean(0)[0], by_hand)


def test_a_new_parameter_begins_anew():
    iterates = Iterates()
    for step, row in enumerate(torch.randn(900, 2), 1):
        parameters = {"a": row[:1]} | ({"b": row[1:]} if step > 390 else {})
        iterates.observe(parameters, step)
        assert iterates.settled(step) == (step >= 790)


def test_a_thousand_coordinates_of_many_are_watched():
    values = [torch.arange(10.0), torch.zeros(300, 20), torch.arange(4000.0)]
    places = watched(values)
    counts = [value.reshape(-1)[at].numel() for value, at in zip(values, places, strict=True)]
    assert sum(counts) == 1000
    assert counts == pytest.approx([1, 600, 400], abs=1)
    few = watched(values[:1])
    assert torch.equal(values[0][few[0]], values[0])


def test_its_state_goes_on_bit_for_bit():
    rows = autoregressive(1500, 0.8, 3)
    whole, first = Iterates(), Iterates()
    for step, row in enumerate(rows, 1):
        whole.observe({"a": row}, step)
        whole.settled(step)
        if step == 700:
            first.load_state_dict(whole.state_dict(), torch.device("cpu"))
        if step > 700:
            first.observe({"a": row}, step)
            first.settled(step)
    same(first.state_dict(), whole.state_dict())


def normal():
    """m ~ N(0, 2²), x_n ~ N(m, 1)."""
    x = torch.randn(N) + 0.7

    def model(x):
        m = pyro.sample("m", dist.Normal(0.0, 2.0))
        with pyro.plate("data", N, subsample=x):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    precision = 0.25 + N
    posterior = dist.Normal(x.sum() / precision, precision**-0.5)

    def found(run):
        values = run.programs[0].values()
        return dist.Normal(values["guide.locs.m"], values["guide.scales.m"])

    return model, AutoNormal(model), {"x": x}, posterior, found


def counts():
    """rate ~ Gamma(2, 1), x_n ~ Poisson(rate), with a Gamma guide."""
    x = torch.poisson(torch.full((N,), 3.0))

    def model(x):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", N, subsample=x):
            pyro.sample("x", dist.Poisson(rate), obs=x)

    def guide(x):
        shape = pyro.param("shape", torch.tensor(300.0), constraint=constraints.positive)
        mean = pyro.param("mean", torch.tensor(2.0), constraint=constraints.positive)
        pyro.sample("rate", dist.Gamma(shape, shape / mean))

    def found(run):
        return dist.Gamma(run.params["shape"], run.params["shape"] / run.params["mean"])

    return model, guide, {"x": x}, dist.Gamma(2 + x.sum(), 1.0 + N), found


@pytest.mark.parametrize("program", [normal, counts])
def test_a_closed_form_posterior_is_reached(program, tmp_path, monkeypatch):
    """Within .01 nats, of all data, of the evidence, the bound's most; and it says why."""
    monkeypatch.setitem(globals(), "N", 20)
    model, guide, data, posterior, found = program()
    optimizer = partial(torch.optim.Adam, lr=0.1)
    options = {"directory": tmp_path, "until": "converged", "optimizer": optimizer}
    run = quiet(model, guide, data, epochs=3000, **options)
    assert 400 <= run.trace["svi"].sizes["step"] < 3000
    assert "seed 0: converged after" in run.trace["svi"].attrs["stopped"]
    assert kl_divergence(found(run), posterior) < 0.01
    kept = load_checkpoint(tmp_path / "checkpoint.pt")[0]
    last, now = kept["last"]["parameters"], kept["program"]["parameters"]
    moved = [name for name in now if not torch.equal(last[name], now[name])]
    assert len(moved) == 2


@pytest.mark.slow
@pytest.mark.parametrize("program", [normal, counts])
@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_the_mean_is_nearer_than_the_last_iterate(program, rate, tmp_path, monkeypatch):
    """In KL to the posterior, of all data; and no seed stops .05 nats from it."""
    monkeypatch.setitem(globals(), "N", 20)
    for seed in range(3):
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        model, guide, data, posterior, found = program()
        options = {"directory": tmp_path / str(seed), "until": "converged", "seeds": [seed]}
        optimizer = partial(torch.optim.Adam, lr=rate)
        run = quiet(model, guide, data, optimizer=optimizer, steps=5000, **options)
        mean = float(kl_divergence(found(run), posterior))
        state = load_checkpoint(tmp_path / str(seed) / "checkpoint.pt")[seed]
        with run.programs[0].scope():
            run.programs[0].load_state_dict(state["last"])
        last = float(kl_divergence(found(run), posterior))
        print(f"{program.__name__} {rate}: {state['step']} steps, {mean:.4f} {last:.4f}")
        assert mean < 0.05
        assert mean < last


def test_one_that_has_not_settled_warns_and_keeps_its_last_parameters(monkeypatch):
    monkeypatch.setattr(convergence, "SEGMENT", 30)
    model, guide, data = global_only()
    options = {"steps": 70, "optimizer": partial(torch.optim.SGD, lr=1e-5)}
    plain = quiet(model, guide, data, **options)
    model, guide, _ = global_only()
    with pytest.warns(UserWarning, match=r"seed 0: not converged after \d\d steps: R-hat"):
        run = quiet(model, guide, data, **options, until="converged")
    assert "not converged" in run.trace["svi"].attrs["stopped"]
    for name, value in plain.params.items():
        assert torch.equal(run.params[name], value)


def location():
    """The mean of numbers, which minibatches wander about."""

    def model(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", N, subsample=x):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    return model, lambda x: None, {"x": torch.randn(N) + 3}


def test_it_resumes_bit_for_bit_before_and_after_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(convergence, "SEGMENT", 30)

    model, guide, data = location()
    options = {
        "model": model,
        "guide": guide,
        "data": data,
        "batch_size": 50,
        "until": "converged",
        "optimizer": partial(torch.optim.SGD, lr=0.3),
        "precision": "float64",
        "progress": False,
    }
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run = fit(epochs=400, directory=whole, **options)
    taken = run.trace["svi"].sizes["step"]
    assert 30 < taken < 1600
    interrupted(taken - 5, monkeypatch, epochs=400, directory=cut, **options)
    fit(epochs=400, directory=cut, resume=True, **options)
    assert_same_runs(cut, whole)
    again = fit(epochs=500, directory=cut, resume=True, **options)
    assert again.trace["svi"].sizes["step"] == taken
    for name, value in run.params.items():
        assert torch.equal(again.params[name], value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"until": "soon"}, "until is 'soon': give \"converged\""),
        ({"patience": 2, "valid": {"x": torch.zeros(5)}}, "leave out one of the two"),
        ({"schedule": cosine}, "leave out the schedule and the annealing"),
        ({"anneal": lambda progress: progress}, "leave out the schedule and the annealing"),
        (
            {"optimizer": pyro.optim.ExponentialLR({
                "optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.9
            })},
            "leave out the scheduler, or until",
        ),
    ],
)  # fmt: skip
def test_refused_beside_it(options, sentence):
    with pytest.raises(UserError, match=sentence):
        quiet(*global_only(), steps=2, **({"until": "converged"} | options))


@pytest.mark.slow
@pytest.mark.usefixtures("_backend")
def test_seeds_at_once_stop_where_each_does(monkeypatch):
    monkeypatch.setattr(convergence, "SEGMENT", 30)
    monkeypatch.setattr(convergence, "TEST_EVERY", 5)
    optimizer = partial(torch.optim.SGD, lr=0.1)
    options = {"epochs": 300, "seeds": 3, "batch_size": 40, "until": "converged"}
    program = location()
    in_turn = quiet(*program, optimizer=optimizer, **options)
    options |= {"compile": True, "seeds_at_once": True}
    at_once = quiet(*program, optimizer=optimizer, **options)
    said = [run.trace["svi"].attrs["stopped"] for run in (in_turn, at_once)]
    assert said[0] == said[1]
    assert said[0].count(" converged after") == 3
    taken = in_turn.trace["svi"]["elbo"].notnull().sum("step").to_numpy()
    assert len(set(taken)) > 1
    for mine, theirs in zip(at_once.programs, in_turn.programs, strict=True):
        for name, value in theirs.values().items():
            torch.testing.assert_close(mine.values()[name], value, rtol=1e-9, atol=1e-9)
