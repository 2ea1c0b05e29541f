"""Several processes train as one does: the same numbers, files, sentences and ends."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from inference.results.traces import read_trace
from inference.util.files import load_checkpoint
from tests.support import together
from tests.support.training import assert_same_runs

RECIPE = "tests/support/recipes/regression.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def torchrun(number, *command, **options):
    """Several processes of a module, under torchrun."""
    parts = [*TORCHRUN, "--nproc-per-node", str(number), "-m", *map(str, command)]
    return subprocess.Popen(parts, text=True, **options)


def ended(number, *command):
    """(the exit codes that torchrun reports, the sentences, all that was said)."""
    process = torchrun(number, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=120)
    codes = {int(code) for code in re.findall(r"exitcode *: (-?\d+)", err)}
    return codes, re.findall(r"^lowerbound: .*$", err, re.MULTILINE), out + err


@pytest.fixture(scope="module")
def by_rank(tmp_path_factory):
    """What each of two processes has found."""
    folder = tmp_path_factory.mktemp("ranks")
    assert torchrun(2, "tests.support.together", folder).wait(timeout=300) == 0
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", together.jobs())
def test_two_processes_are_one(name, by_rank):
    """Under the same noise: trace, parameters, buffers to 1e-12; both processes bit for bit."""
    alone = together.train(together.jobs()[name])
    first, second = (found[name] for found in by_rank)
    assert alone.keys() == first.keys()
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, rtol=1e-12, atol=1e-12, msg=key)
        assert torch.equal(first[key].nan_to_num(), second[key].nan_to_num()), key


def test_processes_draw_different_noise(by_rank):
    a, b = (found["noise"] for found in by_rank)
    assert (a != b).all()


def refused(*command):
    """The one sentence of two processes that end with 2 (torchrun may have ended the second)."""
    codes, sentences, said = ended(2, *command)
    assert 2 in codes, said
    assert codes <= {2, -signal.SIGTERM}, said
    assert len(sentences) == 1, said
    assert not re.search(r"^\[rank", said, re.MULTILINE), said  # no traceback of ours
    return sentences[0]


def test_a_nan_of_one_process_ends_both():
    said = refused("tests.support.ending", "nan")
    assert re.search(r"not finite at step \d+: the log-probability of site 'x' in the model", said)


@pytest.mark.slow
def test_a_row_that_one_process_cannot_read_ends_both():
    assert "row 17 cannot be read" in refused("tests.support.ending", "row")


@pytest.mark.slow
def test_a_bad_option_ends_both(tmp_path):
    command = (
        "inference.cli",
        "fit",
        RECIPE,
        "--out",
        tmp_path / "run",
    )
    assert "batch_size that leaves a row for each" in refused(*command, "--batch-size", 9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("stored", "decaying average of site 'b'"),
        ("whole", "latent 'b' has shape (40,) in the model and (20,) in the guide"),
        ("late", "parameter 'late' appears after the first batch, which training in several"),
        ("first", "parameter 'late' appears in the first rows of one process and not of another"),
        ("uneven", "needs batches that 2 processes share evenly, and one has 9 rows"),
        ("normalised", "normalise divides a signal by its spread within one process"),
    ],
)
def test_what_cannot_be_shared_is_refused(kind, sentence):
    assert sentence in refused("tests.support.ending", kind)


@pytest.mark.slow
def test_the_command_prints_once_and_leaves_one_run(tmp_path):
    command = (
        "inference.cli",
        "fit",
        RECIPE,
        "--out",
        tmp_path / "run",
    )
    codes, sentences, said = ended(2, *command, "--epochs", 3, "--batch-size", 100)
    assert not codes
    assert not sentences
    assert said.count("elbo, training") == 1
    found = {path.name for path in (tmp_path / "run").iterdir()} - {".lock"}
    assert found == {"checkpoint.pt", "config.json", "trace.nc", "elbo.png", "figures.json"}
    codes, sentences, _ = ended(2, *command, "--epochs", 3, "--batch-size", 100)
    assert 2 in codes
    assert len(sentences) == 1
    assert "holds a fit: --resume goes on" in sentences[0]


def workers(process):
    """The processes that torchrun has started."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in listed.read_text().split()]


def kill(directory, moment):
    """Start two, kill -9 both so many seconds after there is a checkpoint; the steps done."""
    process = torchrun(2, "tests.support.killed", directory)
    while process.poll() is None and not (directory / "checkpoint.pt").exists():
        time.sleep(0.005)
    time.sleep(moment)
    assert process.poll() is None, "it was done before it could be killed"
    children = workers(process)
    process.kill()
    for child in children:
        with contextlib.suppress(ProcessLookupError):  # it may have seen that it is alone
            os.kill(child, signal.SIGKILL)
    process.wait()
    return load_checkpoint(directory / "checkpoint.pt")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    assert torchrun(2, "tests.support.killed", directory).wait(timeout=300) == 0
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_two_killed_processes_resume_bit_for_bit(tmp_path, uninterrupted, number):
    kill(tmp_path, random.Random(number).uniform(0, 1.5))
    assert torchrun(2, "tests.support.killed", tmp_path).wait(timeout=300) == 0
    assert_same_runs(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3])
def test_another_number_goes_on(tmp_path, uninterrupted, number):
    """The trace so far stays, what follows has other noise."""
    done = kill(tmp_path, 0.5)[0]["step"]
    assert torchrun(number, "tests.support.killed", tmp_path).wait(timeout=300) == 0
    found, whole = (read_trace(d)["svi"].to_dataset()["elbo"][0] for d in (tmp_path, uninterrupted))
    assert (found[:done] == whole[:done]).all()
    assert found[done:].notnull().any()
    assert not (found[done : done + 5] == whole[done : done + 5]).any()
    assert abs(found[done:].mean() - whole[done:].mean()) < 0.1 * abs(whole[done:].mean())


@pytest.mark.slow
@pytest.mark.parametrize("receiver", ["torchrun", "second process"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_any_saves_and_stops_all(tmp_path, number, receiver):
    process = torchrun(2, "tests.support.ending", "slow", tmp_path, stderr=subprocess.PIPE)
    while not (tmp_path / "config.json").exists():
        time.sleep(0.01)
    time.sleep(1.0)
    receivers = {"torchrun": process.pid, "second process": workers(process)[1]}
    os.kill(receivers[receiver], number)
    _, said = process.communicate(timeout=60)
    states = load_checkpoint(tmp_path / "checkpoint.pt")
    assert 0 < states[0]["step"] < 4000
    assert len(states[0]["rng"]) == 2
    assert "lowerbound:" not in said
