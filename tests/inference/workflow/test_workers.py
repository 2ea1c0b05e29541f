"""Seeds side by side in worker processes: the numbers of one after another, and a clean end."""

import signal
import subprocess
import sys
import time
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from inference import UserError, fit
from inference.util.files import load_checkpoint
from tests.support.examples import local
from tests.support.training import assert_same_runs

quiet = partial(fit, progress=False, precision="float64", batch_size=15)


def program():
    model, guide, _ = local(40)
    return model, guide, {"x": torch.linspace(-1, 3, 40)}


def autoguided():
    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 40, subsample=x):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    return model, AutoNormal(model), {"x": torch.linspace(-1, 3, 40)}


@pytest.mark.parametrize("make", [pytest.param(program, marks=pytest.mark.slow), autoguided])
def test_the_numbers_of_one_after_another(make, tmp_path):
    options = {"epochs": 3, "seeds": [4, 1, 7]}
    quiet(*make(), directory=tmp_path / "in turn", **options)
    quiet(*make(), directory=tmp_path / "beside", jobs=2, **options)
    assert_same_runs(tmp_path / "beside", tmp_path / "in turn")
    assert not list((tmp_path / "beside").glob("checkpoint-*"))
    quiet(*make(), directory=tmp_path / "beside", resume=True, jobs=2, **options | {"epochs": 5})
    quiet(*make(), directory=tmp_path / "in turn", resume=True, **options | {"epochs": 5})
    assert_same_runs(tmp_path / "beside", tmp_path / "in turn")
    in_memory = quiet(*make(), jobs=2, **options | {"epochs": 5})
    on_disk = quiet(*make(), directory=tmp_path / "beside", resume=True, **options | {"epochs": 5})
    assert all(torch.equal(v, on_disk.params[n]) for n, v in in_memory.params.items())


def test_a_sentence_of_a_worker_is_the_fit_s():
    model, guide, data = autoguided()

    def wrong(x):
        if len(x) == 10:
            raise UserError("ten rows are too few")
        return model(x)

    with pytest.raises(UserError, match="ten rows are too few"):
        quiet(wrong, guide, data, epochs=1, seeds=2, jobs=2)


def test_what_cannot_be_sent_is_said():
    model, guide, data = autoguided()
    lock = sys.stdout

    def bound_to_here(x):
        assert lock is not None
        return model(x)

    with pytest.raises(UserError, match="cannot be sent to worker processes"):
        quiet(bound_to_here, guide, data, epochs=1, seeds=2, jobs=2)


def test_jobs_and_all_at_once_are_refused():
    with pytest.raises(UserError, match="jobs are for seeds one by one"):
        quiet(*program(), epochs=1, seeds=2, jobs=2, seeds_at_once=True, compile=True)


LONG = """
import sys, time, torch
from inference import fit
from tests.inference.workflow.test_workers import autoguided
model, guide, data = autoguided()
def slow(x):
    time.sleep(0.005)
    return model(x)
fit(slow, guide, data, epochs=int(sys.argv[2]), checkpoint_every=float(sys.argv[3]), seeds=3,
    jobs=2, directory=sys.argv[1], progress=False, precision="float64", batch_size=15, resume=True)
"""


def long(directory, epochs, every):
    return subprocess.Popen([sys.executable, "-c", LONG, str(directory), str(epochs), str(every)])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_of_all_goes_on_to_the_same_end(number, tmp_path):
    every = 1e9 if number == signal.SIGTERM else 0.1
    process = long(tmp_path / "cut", 300, every)
    locks = ".checkpoint-*.lock"  # a worker has its own once it is about to train
    while process.poll() is None and len(list((tmp_path / "cut").glob(locks))) < 2:
        time.sleep(0.1)
    time.sleep(4)
    process.send_signal(number)
    assert process.wait(60) != 0
    parts = [load_checkpoint(part) for part in tmp_path.glob("cut/checkpoint-*.pt")]
    steps = [state["step"] for part in parts for state in part.values()]
    assert len(steps) >= 2  # of three seeds; on a crowded machine one may have ended
    assert 0 < min(steps) < 900
    for name in ("cut", "whole"):
        assert long(tmp_path / name, 300, 30).wait() == 0
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")
