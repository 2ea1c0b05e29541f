"""Killed, or on a full disk, at random moments, checkpoints and report included: the same end.

Children are forked, so that a moment is one of the fit, not of Python's imports.
"""

import json
import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

import pyro
import pytest
import torch

from inference import fit
from inference.cli.main import main
from inference.util.files import load_checkpoint
from tests.support.examples import local
from tests.support.training import assert_same_runs

RECIPES = {
    "vae": ["--hidden", "8", "--latent-dim", "2", "--epochs", "6", "--patience", "4"],
    "sbn": ["--data", "digits", "--latent-dims", "5", "--epochs", "6"],
    "categorical_vae": ["--variables", "3", "--classes", "3", "--hidden", "8", "--epochs", "6"],
    "attention": ["--epochs", "3", "--steps-of-attention", "2"],
    "squared_distance": ["--epochs", "40", "--seeds", "2"],
}


def recipe(name, directory):
    """Trains, saving after each step, and reports."""
    from inference.engine.training import interrupts

    due = property(lambda self: True)
    interrupts.Checkpointing.due = due
    main(["fit", name, *RECIPES[name], "--resume", "--out", str(directory)])


def own(name, directory):
    """The same for a program of functions and modules that is no recipe."""
    pyro.set_rng_seed(0)
    model, guide, _ = local(40)
    data = {"x": torch.linspace(-1, 3, 40)}
    options = {"epochs": 60, "batch_size": 15, "seeds": 2, "checkpoint_every": 0.0, "resume": True}
    fit(model, guide, data, directory=directory, progress=False, **options)


def child(function, name, directory, full_after=None):
    """Another process; after so many seconds no file may grow beyond a kilobyte."""
    os.setsid()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    torch.set_default_dtype(torch.float64)
    if full_after is not None:
        limit = lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, limit)
        signal.setitimer(signal.ITIMER_REAL, full_after)
    function(name, directory)
    os._exit(0)


def started(function, name, directory, *how):
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=child, args=(function, name, directory, *how))
    process.start()
    return process


def whole(function, name, directory):
    """An uninterrupted run, and the seconds it took."""
    begun = time.monotonic()
    process = started(function, name, directory)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - begun


def assert_same_end(directory, other):
    assert_same_runs(directory, other)
    for file in ("figures.json",):
        if (other / file).exists():
            a, b = (json.loads((d / file).read_text()) for d in (directory, other))
            assert a.keys() == b.keys()
            drawn_anew = {n for n in a if n.startswith(("cost", "time", "microseconds"))}
            assert {n: a[n] for n in a if n not in drawn_anew} == {
                n: b[n] for n in b if n not in drawn_anew
            }
    assert not [p for p in Path(directory).iterdir() if ".tmp" in p.name]


KILLS = [*((recipe, name) for name in RECIPES), (own, "own")]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "name"), KILLS, ids=[name for _, name in KILLS])
def test_nine_kills_each(function, name, tmp_path):
    seconds = whole(function, name, tmp_path / "whole")
    chance = random.Random(name)
    for kill in range(9):
        directory = tmp_path / str(kill)
        for _ in range(2):
            process = started(function, name, directory)
            process.join(chance.uniform(0.05, seconds))
            process.kill()
            process.join()
        whole(function, name, directory)
        assert_same_end(directory, tmp_path / "whole")


@pytest.mark.slow
def test_ten_full_disks(tmp_path):
    seconds = whole(own, "own", tmp_path / "whole")
    chance = random.Random(0)
    failed = 0
    for number in range(10):
        directory = tmp_path / str(number)
        process = started(own, "own", directory, chance.uniform(0.1, 0.9) * seconds)
        process.join()
        failed += process.exitcode != 0
        if (directory / "checkpoint.pt").exists():
            load_checkpoint(directory / "checkpoint.pt")
        whole(own, "own", directory)
        assert_same_end(directory, tmp_path / "whole")
    assert failed >= 5
