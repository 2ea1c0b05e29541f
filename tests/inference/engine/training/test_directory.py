"""One directory, one fit: whose it is, what identifies it, and how it goes on to more."""

import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from inference import Streamed, UserError, fit
from inference.data.columns import Columns
from inference.engine.training.identity import describe_schedule, fingerprint
from inference.engine.training.records.recorder import MAX_ROWS, Recorder, regrouped
from inference.engine.training.schedules import constant, cosine, warm_up
from inference.util.files import load_checkpoint
from tests.support.examples import global_only, local
from tests.support.training import assert_same_runs, interrupted

quiet = partial(fit, progress=False, precision="float64")


@pytest.mark.parametrize("name", ["checkpoint.pt", "trace.nc", "figures.json", "config.json"])
def test_what_is_not_ours_is_kept(name, tmp_path):
    (tmp_path / name).write_bytes(b"three days of sampling")
    for resume in (False, True):
        with pytest.raises(UserError, match=f"{name}.* is not "):
            quiet(*global_only(), steps=2, directory=tmp_path, resume=resume)
    assert (tmp_path / name).read_bytes() == b"three days of sampling"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    quiet(*global_only(), steps=2, directory=tmp_path, overwrite=True)
    assert load_checkpoint(tmp_path / "checkpoint.pt")[0]["step"] == 2


def test_a_program_that_fails_leaves_no_directory(tmp_path):
    def wrong(x):
        raise ValueError("wrong")

    _, guide, data = global_only()
    with pytest.raises(ValueError, match="wrong"):
        quiet(wrong, guide, data, steps=2, directory=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_a_killed_process_left_is_cleared(tmp_path):
    for name in (".checkpoint.pt.77.tmp.pt", ".config.json.77.tmp.json", ".mine.tmp"):
        (tmp_path / name).write_bytes(b"half")
    quiet(*global_only(), steps=2, directory=tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".mine.tmp", ".lock", "checkpoint.pt", "config.json", "trace.nc"}


WAITS = """
import sys, time, torch
from inference import fit
from tests.support.examples import global_only
model, guide, data = global_only()
def slow(x):
    time.sleep(0.02)
    return model(x)
fit(slow, guide, data, steps=100_000, directory=sys.argv[1], progress=False, checkpoint_every=1e9)
"""


def started(directory):
    """A training in another process, once it has claimed the directory."""
    process = subprocess.Popen([sys.executable, "-c", WAITS, str(directory)])
    while process.poll() is None and not (directory / "config.json").exists():
        time.sleep(0.01)
    return process


def test_a_second_fit_is_refused_and_a_kill_frees_the_directory(tmp_path):
    first = started(tmp_path)
    for how in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(UserError, match="another process trains in"):
            quiet(*global_only(), steps=2, directory=tmp_path, **how)
    first.kill()
    first.wait()
    assert quiet(*global_only(), steps=2, directory=tmp_path, overwrite=True).directory


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_request_to_end_saves_first(number, tmp_path):
    process = started(tmp_path)
    time.sleep(0.3)
    process.send_signal(number)
    assert process.wait(30) != -number  # not killed by it
    assert load_checkpoint(tmp_path / "checkpoint.pt")[0]["step"] > 0


def test_of_two_at_once_one_is_refused(tmp_path):
    two_at_once(tmp_path, 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_of_two_at_once_one_is_refused_each_time(number, tmp_path):
    two_at_once(tmp_path, number)


def two_at_once(directory, number):
    script = WAITS.replace("steps=100_000", "steps=int(sys.argv[2])").replace("0.02", "0.002")
    run = [sys.executable, "-c", script, str(directory / "run")]
    both = [subprocess.Popen([*run, "400"], stderr=subprocess.PIPE, text=True)]
    time.sleep(0.05 * (number % 5))
    both += [subprocess.Popen([*run, "300"], stderr=subprocess.PIPE, text=True)]
    errors = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 1]
    assert (
        "another process trains in" in errors[codes.index(1)]
        or "holds a fit" in errors[codes.index(1)]
    )
    state = load_checkpoint(directory / "run" / "checkpoint.pt")[0]
    assert state["step"] == (400, 300)[codes.index(0)]


def begun(directory, monkeypatch, model, guide, data, **options):
    interrupted(
        5,
        monkeypatch,
        model=model,
        guide=guide,
        data=data,
        steps=12,
        batch_size=10,
        directory=directory,
        progress=False,
        precision="float64",
        **options,
    )


def resumed(directory, model, guide, data, **options):
    options = {"steps": 12, "batch_size": 10, "directory": directory} | options
    return quiet(model, guide, data, resume=True, **options)


def student(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 40, subsample=x):
        pyro.sample("x", dist.StudentT(3.0, w, 1.0), obs=x)


def test_other_data_another_likelihood_or_lambda_are_refused(tmp_path, monkeypatch):
    model, guide, data = global_only()
    adam = lambda p: torch.optim.Adam(p, lr=1e-3)  # noqa: E731
    begun(tmp_path, monkeypatch, model, guide, data, optimizer=adam, valid=data)
    how = {"optimizer": adam, "valid": data}
    other = {"x": data["x"].clone()}
    other["x"][3] += 1e-9
    with pytest.raises(UserError, match="a fit of other data, by their hash"):
        resumed(tmp_path, model, guide, other, **how)
    with pytest.raises(UserError, match="other held-out data, by their hash"):
        resumed(tmp_path, model, guide, data, **how | {"valid": other})
    with pytest.raises(UserError, match=r"sites, x = Normal\(scale=1\), not StudentT\(df=3"):
        resumed(tmp_path, student, guide, data, **how)
    with pytest.raises(UserError, match=r"optimizer, lr = 0\.001, not 0\.1"):
        resumed(
            tmp_path, model, guide, data, **how | {"optimizer": partial(torch.optim.Adam, lr=0.1)}
        )
    with pytest.raises(UserError, match="schedule = constant, not other"):
        resumed(tmp_path, model, guide, data, **how, schedule=other_schedule)
    run = resumed(tmp_path, model, guide, data, **how)
    assert run.trace["svi"].sizes["step"] == 12


@pytest.mark.parametrize(
    ("prior", "noise", "difference"),
    [
        (2.0, 0.5, r"sites, w = Normal\(loc=0, scale=1\), not Normal\(loc=0, scale=2\)"),
        (1.0, 0.6, r"sites, x = Normal\(scale=0\.5\), not Normal\(scale=0\.6\)"),
    ],
)
def test_another_constant_is_refused(prior, noise, difference, tmp_path, monkeypatch):
    """Whatever is learnt or drawn is none: w's draw, the guide's scale, which begins otherwise."""

    def program(prior, noise, begin):
        def model(x):
            w = pyro.sample("w", dist.Normal(0.0, prior))
            with pyro.plate("data", 40, subsample=x):
                pyro.sample("x", dist.Normal(w, noise), obs=x)

        def guide(x):
            scale = pyro.param("scale", torch.tensor(begin), constraint=constraints.positive)
            pyro.sample("w", dist.Normal(0.0, scale))

        return model, guide, {"x": torch.linspace(-1, 1, 40)}

    begun(tmp_path, monkeypatch, *program(1.0, 0.5, 0.1))
    with pytest.raises(UserError, match=difference):
        resumed(tmp_path, *program(prior, noise, 0.1))
    assert resumed(tmp_path, *program(1.0, 0.5, 0.7)).trace["svi"].sizes["step"] == 12


def other_schedule(progress):
    return 1 - progress / 2


def test_a_hash_knows_names_types_values_and_tables():
    x, table = torch.arange(6), torch.arange(12.0)
    prints = [
        fingerprint(Columns({"x": x})),
        fingerprint(Columns({"y": x})),
        fingerprint(Columns({"x": x.int()})),
        fingerprint(Columns({"x": x.reshape(6, 1)})),
        fingerprint(Columns({"x": x.flip(0)})),
        fingerprint(Columns({"x": x}, tables={"x": table})),
        fingerprint(Columns({"x": x}, tables={"x": table + 1})),
        fingerprint(Streamed([{"x": i} for i in range(6)])),
        fingerprint(Streamed([{"x": i} for i in range(7)])),
        fingerprint(Streamed([{"x": i * (i < 5)} for i in range(6)])),
    ]
    assert len(set(prints)) == len(prints)
    strided = torch.stack([x, x], 1)[:, 0]
    assert fingerprint(Columns({"x": strided})) == prints[0]


def test_schedules_of_one_name_differ():
    assert describe_schedule(constant) == "constant"
    assert describe_schedule(lambda p: 0.5) == "constant 0.5"
    found = {describe_schedule(s) for s in (warm_up(0.2), warm_up(0.5), cosine, lambda p: p)}
    assert len(found) == 4


def growing(directory, small, large, **options):
    """A fit of few epochs that goes on to more, beside one of more from the start."""
    make = options.pop("make", local)
    pyro.set_rng_seed(1)
    program = make()
    again = lambda: (torch.manual_seed(2), make(), program[2])  # noqa: E731
    for name, sizes in (("grown", (small, large)), ("whole", (large,))):
        for size in sizes:
            _, (model, guide, _), data = again()
            quiet(model, guide, data, **size, **options, directory=directory / name, resume=True)
    assert_same_runs(directory / "grown", directory / "whole")


FAST = {"optimizer": partial(torch.optim.Adam, lr=0.01), "batch_size": 15}


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (local, {}),
        (global_only, {"optimizer": pyro.optim.ClippedAdam({"lr": 0.01, "lrd": 0.99})}),
        (
            local,
            {
                "optimizer": pyro.optim.ExponentialLR(
                    {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}, "gamma": 0.9}
                )
            },
        ),
        (global_only, {"valid": {"x": torch.linspace(0, 3, 20)}, "patience": 3}),
    ],
    ids=["adam", "pyro's", "pyro's scheduler", "held-out data and patience"],
)
def test_more_epochs_are_those_of_one_run(make, options, tmp_path):
    growing(tmp_path, {"epochs": 2}, {"epochs": 6}, make=make, **FAST | options)


@pytest.mark.slow
@pytest.mark.parametrize("make", [local, global_only])
def test_twenty_epochs_go_on_to_sixty(make, tmp_path):
    growing(tmp_path, {"epochs": 20}, {"epochs": 60}, make=make, seeds=2, **FAST)


def test_more_steps_and_more_seeds(tmp_path):
    growing(tmp_path / "steps", {"steps": 4}, {"steps": 11}, **FAST)
    growing(tmp_path / "seeds", {"seeds": 1}, {"seeds": 3}, epochs=2, **FAST)
    growing(tmp_path / "both", {"seeds": 1, "steps": 5}, {"seeds": 2, "steps": 7}, **FAST)


def test_fewer_and_other_seeds_are_refused(tmp_path):
    program = global_only()
    quiet(*program, steps=2, seeds=[0, 1], directory=tmp_path)
    for seeds, sentence in (([0], r"seeds = \[0, 1\], not \[0\]"), ([1, 0, 2], "seeds = ")):
        with pytest.raises(UserError, match=sentence):
            quiet(*program, steps=2, seeds=seeds, directory=tmp_path, resume=True)


def test_a_schedule_of_the_length_asks_for_extend(tmp_path):
    program = global_only()
    options = {"schedule": cosine, "directory": tmp_path, "resume": True}
    quiet(*program, steps=4, **options)
    with pytest.raises(UserError, match=r"whose schedule depends on their number[^-]*--extend"):
        quiet(*program, steps=8, **options)
    run = quiet(*program, steps=8, extend=True, **options)
    assert run.trace["svi"].sizes["step"] == 8
    quiet(*program, steps=8, **options)  # it is of eight now


def test_more_within_an_epoch_is_refused_where_it_was_evaluated(tmp_path):
    model, guide, data = global_only()
    options = {"batch_size": 10, "valid": data, "directory": tmp_path, "resume": True}
    quiet(model, guide, data, steps=6, **options)
    with pytest.raises(UserError, match="ended within an epoch, after 6 steps"):
        quiet(model, guide, data, steps=8, **options)


def recorded(count):
    recorder = Recorder(["elbo", "grad_norm"])
    for i in range(count):
        recorder.append(torch.tensor([float(i), 1.0]))
    return recorder


def test_windows_double_as_steps_come():
    recorder = recorded(count := 2 * MAX_ROWS + 70)
    rows, ends = recorder.fetch(), recorder.steps(count)
    assert recorder.window == 4
    assert len(rows) == len(ends) == MAX_ROWS // 2 + 18
    means = torch.arange(count, dtype=torch.float64)[: count // 4 * 4].reshape(-1, 4).mean(1)
    assert torch.equal(rows[:-1, 0], means)
    assert rows[-1, 0] == count - 1.5  # of the two that are left
    assert ends[-2:].tolist() == [count - 2, count]
    assert bool((rows[1:, -1] >= rows[:-1, -1]).all())
    wider, last = regrouped(rows[:3], ends[:3], 8)
    assert wider[:, 0].tolist() == [3.5, 9.5]
    assert last.tolist() == [8, 12]


def test_seeds_that_end_in_windows_of_different_width_share_steps(tmp_path, monkeypatch):
    monkeypatch.setattr("inference.engine.training.records.recorder.MAX_ROWS", 64)
    monkeypatch.setattr("inference.engine.training.records.recorder.BLOCK", 16)
    x = torch.linspace(0, 3, 20)
    stops = {0: 30, 1: 150}

    from inference.engine.training.validation import HeldOut

    exhausted = property(lambda self: len(self.history) >= stops.get(self.number, 0))
    numbers = iter(stops)
    init = HeldOut.__init__
    monkeypatch.setattr(
        HeldOut,
        "__init__",
        lambda self, p: (init(self, p), setattr(self, "number", next(numbers)))[0],
    )
    monkeypatch.setattr(HeldOut, "exhausted", exhausted)
    model, guide, _ = local(20)
    run = quiet(model, guide, {"x": x}, steps=200, seeds=2, valid={"x": x})
    svi = run.trace["svi"].to_dataset()
    assert svi["step"].to_numpy().tolist() == [*range(4, 150, 4), 150]
    ends = np.isfinite(svi["elbo"].to_numpy()).sum(1)
    assert ends.tolist() == [8, 38]


def test_records_of_other_columns_are_refused():
    kept = Recorder(["elbo", "grad_norm"])
    kept.append(torch.zeros(2))
    fresh = Recorder(["elbo", "kl_z", "grad_norm"])
    with pytest.raises(UserError, match="recorded 2 figures a step, and this fit records 3"):
        fresh.load_state_dict(kept.state_dict(), torch.device("cpu"))
