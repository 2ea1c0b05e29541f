"""Kill it at any moment: the resumed run equals an uninterrupted one bit for bit."""

import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceGraph_ELBO

from inference import UserError, fit
from inference.engine.training.seed_training import SeedTraining
from inference.results.traces import read_trace
from inference.util.files import load_checkpoint, save_checkpoint, write_json
from tests.support.examples import global_only
from tests.support.training import assert_same_runs, interrupted


def start(directory, *how):
    return subprocess.Popen([sys.executable, "-m", "tests.support.killed", str(directory), *how])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    assert start(directory).wait() == 0
    return directory


def kill(directory, moment, *how):
    """Start, kill so many seconds after there is a checkpoint; whether it was still running."""
    process = start(directory, *how)
    while process.poll() is None and not (directory / "checkpoint.pt").exists():
        time.sleep(0.005)
    time.sleep(moment)
    was_running = process.poll() is None
    process.kill()
    process.wait()
    return was_running


def kill_twice_and_resume(directory, moments, *how):
    """The first kill hits the training, the second anything from the imports to the end."""
    span = 1.0
    while not kill(directory, moments.uniform(0, span), *how):
        shutil.rmtree(directory)
        directory.mkdir()
        span *= 0.7
    kill(directory, moments.uniform(0, 6), *how)
    assert start(directory, *how).wait() == 0


def test_a_killed_run_equals_the_uninterrupted_one(tmp_path, uninterrupted):
    kill_twice_and_resume(tmp_path, random.Random(0))
    assert_same_runs(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_twenty_killed_runs(tmp_path, uninterrupted, number):
    kill_twice_and_resume(tmp_path, random.Random(1000 + number))
    assert_same_runs(tmp_path, uninterrupted)


@pytest.mark.slow
def test_compiled_runs_killed(tmp_path):
    """Bit for bit the uninterrupted one; the uncompiled one's numbers up to rounding."""
    whole = tmp_path / "whole"
    assert start(whole, "compile").wait() == 0
    for number in range(3):
        directory = tmp_path / str(number)
        kill_twice_and_resume(directory, random.Random(2000 + number), "compile")
        assert_same_runs(directory, whole)


def discrete():
    """b_n ~ Bernoulli, whose score function TraceGraph_ELBO centres by a decaying average."""
    x = torch.randn(40)

    def model(x):
        with pyro.plate("data", 40, subsample=x):
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def guide(x):
        logit = pyro.param("logit", torch.tensor(0.1))
        with pyro.plate("data", 40, subsample=x):
            infer = {"baseline": {"use_decaying_avg_baseline": True}}
            pyro.sample("b", dist.Bernoulli(logits=logit * x), infer=infer)

    return model, guide, {"x": x}


def test_a_baseline_in_the_parameter_store_resumes(tmp_path, monkeypatch):
    model, guide, data = discrete()
    options = {
        "model": model,
        "guide": guide,
        "data": data,
        "estimator": TraceGraph_ELBO(),
        "steps": 30,
        "batch_size": 10,
        "optimizer": partial(torch.optim.Adam, lr=0.01),
        "precision": "float64",
        "progress": False,
    }
    fit(directory=tmp_path / "whole", **options)
    interrupted(17, monkeypatch, directory=tmp_path / "cut", **options)
    fit(directory=tmp_path / "cut", resume=True, **options)
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")
    store = load_checkpoint(tmp_path / "cut" / "checkpoint.pt")[0]["program"]["store"]
    assert any("baseline" in name and value.abs().sum() > 0 for name, value in store.items())


def test_an_epoch_that_was_not_evaluated_before_the_end_is_after_it(tmp_path, monkeypatch):
    """A checkpoint between an epoch's last step and its held-out bound loses neither."""
    model, guide, data = global_only()
    options = {"steps": 12, "batch_size": 10, "valid": data, "precision": "float64"}
    options |= {"model": model, "guide": guide, "data": data, "progress": False}
    fit(directory=tmp_path / "whole", **options)

    def stop(self, valid):
        if self.step == 8:
            raise KeyboardInterrupt
        evaluate(self, valid)

    evaluate = SeedTraining.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(SeedTraining, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(directory=tmp_path / "cut", **options)
    fit(directory=tmp_path / "cut", resume=True, **options)
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")


def test_a_finished_run_is_read_not_repeated(tmp_path):
    options = {"steps": 5, "directory": tmp_path, "resume": True, "progress": False}
    program = global_only()
    first = fit(*program, **options)
    before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    again = fit(*program, **options)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == before
    assert again.trace["svi"].to_dataset().identical(first.trace["svi"].to_dataset())
    assert torch.equal(again.params["loc"], first.params["loc"])


def test_another_fit_s_directory_is_refused(tmp_path):
    program = global_only()
    fit(*program, steps=3, directory=tmp_path, progress=False)
    with pytest.raises(UserError, match="holds a fit with steps = 3, not 2"):
        fit(*program, steps=2, directory=tmp_path, resume=True, progress=False)


def test_another_program_s_checkpoint_is_refused(tmp_path):
    model, before, data = global_only()
    fit(model, before, data, steps=2, directory=tmp_path, progress=False)

    def guide(x):
        other = pyro.param("other", torch.tensor(0.0))
        pyro.sample("w", dist.Normal(other, other.exp()))

    with pytest.raises(UserError, match="checkpoint is of another program"):
        fit(model, guide, data, steps=2, directory=tmp_path, resume=True, progress=False)


def checkpointed(directory, change):
    """A fit of six steps, killed after three; its checkpoint's optimiser state is changed."""
    program = global_only()
    fit(*program, steps=3, optimizer=MOMENTUM, directory=directory, progress=False)
    checkpoint = load_checkpoint(directory / "checkpoint.pt")
    state = checkpoint[0] | {"finished": False}
    state["optimizer"] = change(state["optimizer"])
    save_checkpoint(directory / "checkpoint.pt", {0: state})
    return program


MOMENTUM = lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9)  # noqa: E731 (it has no name)


@pytest.mark.parametrize(
    ("optimizer", "change", "sentence"),
    [
        (lambda p: torch.optim.Adam(p, lr=1e-3), dict, "optimizer, class = SGD, not Adam"),
        (lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9), dict, "lr = 0.001, not 0.01"),
        (MOMENTUM, lambda state: state["generations"][0][1], "does not fit this training"),
        (MOMENTUM, lambda state: {"state": {}, "groups": []}, "written by another version"),
    ],
    ids=["other class", "other rate", "torch's own layout", "unknown"],
)
def test_an_optimiser_state_of_another_kind_is_refused(tmp_path, optimizer, change, sentence):
    program = checkpointed(tmp_path, change)
    options = {"directory": tmp_path, "resume": True, "progress": False}
    with pytest.raises(UserError, match=sentence):
        fit(*program, steps=3, optimizer=optimizer, **options)


def test_a_broken_checkpoint_is_said_to_be_one(tmp_path):
    program = global_only()
    fit(*program, steps=2, directory=tmp_path, progress=False)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    where = random.Random(0)
    for content, sentence in [
        (b"PK nonsense", "has no checksum"),
        (whole[: len(whole) // 2], "has no checksum"),
        *[(flipped(whole, where.randrange(8 * len(whole))), "checksum|damaged") for _ in range(40)],
    ]:
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            fit(*program, steps=2, directory=tmp_path, resume=True, progress=False)


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"rows": 4', r"config\.json is not readable JSON"),
        (b"\xff\xfe", r"config\.json is not readable JSON"),
        (b"[1, 2]", "not of this version's fit"),
        (b'{"model_type": "bert"}', "not of this version's fit"),
        (b'{"format": 1, "rows": 40}', "not of this version's fit"),
        (b'{"format": 2}', "holds a fit with rows = None, not 40"),
    ],
)
def test_a_broken_config_is_said_to_be_one(content, sentence, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        fit(*global_only(), steps=2, directory=tmp_path, resume=True, progress=False)
    assert (tmp_path / "config.json").read_bytes() == content


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path):
    fit(*global_only(), steps=2, directory=tmp_path, progress=False)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        for write in (save_checkpoint, write_json):
            name = "checkpoint.pt" if write is save_checkpoint else "config.json"
            with pytest.raises(UserError, match=f"{name} could not be written"):
                write(tmp_path / name, {"x": list(range(10_000))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert kept == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_an_existing_run_is_neither_repeated_nor_replaced_unasked(tmp_path):
    program = global_only()
    fit(*program, steps=2, directory=tmp_path, progress=False)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="holds a fit: --resume goes on"):
        fit(*program, steps=2, directory=tmp_path, progress=False)
    with pytest.raises(UserError, match="batch_size is 0"):
        fit(*program, steps=2, batch_size=0, directory=tmp_path, overwrite=True, progress=False)
    assert kept == {path: path.read_bytes() for path in tmp_path.iterdir()}
    fit(*program, steps=3, directory=tmp_path, overwrite=True, progress=False)
    assert read_trace(tmp_path)["svi"].sizes["step"] == 3


class Asked(torch.optim.SGD):
    """Ctrl-C comes so many times in the fifth step, when half of the parameters are moved."""

    times = 0

    def step(self, closure=None):
        super().step(closure)
        self.taken = getattr(self, "taken", 0) + 1
        if self.taken == 5:
            for _ in range(Asked.times):
                signal.raise_signal(signal.SIGINT)


@pytest.fixture
def interruptible():
    """Python's own answer to Ctrl-C, which a process in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("times", "steps"), [(1, 5), (2, None)])
def test_ctrl_c_waits_for_the_step_s_end(tmp_path, monkeypatch, times, steps):
    """Asked twice it does not, and saves nothing that is not whole; then it is ours no more."""
    model, guide, data = global_only()
    options = {"steps": 12, "batch_size": 10, "precision": "float64", "progress": False}
    options |= {"model": model, "guide": guide, "data": data, "optimizer": partial(Asked, lr=1e-3)}
    handler = signal.getsignal(signal.SIGINT)
    fit(directory=tmp_path / "whole", **options)
    monkeypatch.setattr(Asked, "times", times)
    with pytest.raises(KeyboardInterrupt):
        fit(directory=tmp_path / "cut", **options)
    assert signal.getsignal(signal.SIGINT) is handler
    checkpoint = tmp_path / "cut" / "checkpoint.pt"
    assert checkpoint.exists() == (steps is not None)
    assert steps is None or load_checkpoint(checkpoint)[0]["step"] == steps
    monkeypatch.setattr(Asked, "times", 0)
    fit(directory=tmp_path / "cut", resume=True, **options)
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_that_is_ignored_stays_so(tmp_path, monkeypatch):
    """As in a job in the background."""
    model, guide, data = global_only()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(Asked, "times", 1)
    sgd = partial(Asked, lr=1e-3)
    run = fit(model, guide, data, None, sgd, steps=12, batch_size=10, progress=False)
    assert run.trace["svi"].sizes["step"] == 12
