"""Does training equal Pyro's: bound, parameters, compiled, resumed, several seeds."""

import contextlib
import functools
import itertools
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from unittest import mock

import numpy as np
import pyro
import torch

from inference import Run, fit
from inference.engine.capture.backends import interpreted
from inference.engine.capture.captured import Captured
from inference.util.files import load_checkpoint
from tests.programs import Made, Program
from tests.support.against_pyro import by_hand
from tests.support.against_pyro.by_hand import RATE, SEED, STEPS, WEIGHTS, Trained, Values
from tests.support.against_pyro.ranks import rank_sum
from tests.support.training import same

SGD = functools.partial(torch.optim.SGD, lr=RATE)
EXACT, ROUNDING = 1e-12, 1e-9  # relative
CRITICAL = 5.0  # of a z among two: family-wise error 1e-6


def ours(program: Program, made: Made, optimizer=SGD, **options) -> Run:
    """``fit`` of the program, five steps of one seed unless said otherwise."""
    how = {"steps": STEPS, "seeds": [SEED], "precision": "float64", "progress": False} | options
    return fit(
        made.model,
        made.guide,
        made.data,
        program.elbo(),
        optimizer,
        batch_size=program.batch_size,
        **how,
    )


def outcome(program: Program, made: Made, run: Run, seed: int = SEED, at: int = 0) -> Trained:
    """What ``fit`` made of the program, in the words of ``by_hand.train``."""
    losses = [-value for value in run.trace["svi"]["elbo"].values[at].tolist()]
    seen = list(itertools.islice(by_hand.batches(program, made, seed), len(losses)))
    with run.programs[at].scope():
        return by_hand.snapshot(program, made, losses, seen)


def assert_close(ours: Values, theirs: Values, what: str, rtol: float) -> None:
    """The same names with the same values, relative to the largest of each."""
    assert ours.keys() == theirs.keys(), f"{what}: {sorted(ours.keys() ^ theirs.keys())}"
    for name, value in theirs.items():
        size = float(value.abs().max()) if value.numel() else 0.0
        gap = (ours[name] - value).abs().max() if value.numel() else 0.0
        assert float(gap) <= rtol * max(size, RATE), f"{what} {name!r} differs by {float(gap):.2g}"


def assert_same(mine: Trained, theirs: Trained, rtol: float = EXACT) -> None:
    losses = [torch.tensor(t.losses) for t in (mine, theirs)]
    assert_close({"loss": losses[0]}, {"loss": losses[1]}, "the steps'", rtol)
    assert_close(mine.parameters, theirs.parameters, "parameter", rtol)
    assert_close(mine.buffers, theirs.buffers, "buffer", rtol)


def elbo(program: Program) -> None:
    """The first recorded ELBO is ``SVI.evaluate_loss`` under the same seed."""
    made = by_hand.fresh(program)
    run = ours(program, made, steps=1)
    made = by_hand.fresh(program)
    by_hand.initialised(program, made)
    svi = pyro.infer.SVI(made.model, made.guide, pyro.optim.SGD({"lr": RATE}), program.elbo())
    loss = svi.evaluate_loss(**next(by_hand.batches(program, made))) / by_hand.length(made)
    found = {"ELBO": torch.tensor(run.trace["svi"]["elbo"].values[0, 0])}
    assert_close(found, {"ELBO": torch.tensor(-loss)}, "first", EXACT)


def sgd(program: Program) -> None:
    """Five steps of SGD end where five steps by hand do, buffers too."""
    made = by_hand.fresh(program)
    mine = outcome(program, made, ours(program, made))
    made = by_hand.fresh(program)
    assert_same(mine, by_hand.train(program, made))


@contextmanager
def operation_by_operation() -> Iterator[None]:
    """What is captured runs as it was captured, instead of being compiled for minutes."""
    patched = partialmethod(Captured.__init__, backend=interpreted)
    with mock.patch.object(Captured, "__init__", patched):
        yield


def compiled(program: Program) -> None:
    """The captured step gives the numbers of the step by hand, up to rounding."""
    if program.other_noise:
        return compiled_in_distribution(program)
    made = by_hand.fresh(program)
    with operation_by_operation():
        run = ours(program, made, compile=True)
    mine = outcome(program, made, run)
    made = by_hand.fresh(program)
    assert_same(mine, by_hand.train(program, made), ROUNDING)


def compiled_in_distribution(program: Program) -> None:
    """Losses and norms of many captured steps at one place rank among Pyro's as their equals."""
    still, steps = functools.partial(torch.optim.SGD, lr=0.0), {"steps": 150}
    found = []
    for how in ({}, {"compile": True}):
        made = by_hand.fresh(program)
        with operation_by_operation():
            svi = ours(program, made, still, **steps, **how).trace["svi"]
        found.append(np.stack([svi[name].values[0] for name in ("elbo", "grad_norm")], -1))
    z = rank_sum(np.concatenate(found))
    assert (np.abs(z) < CRITICAL).all(), f"captured losses or norms differ, z {np.abs(z).max():.1f}"


class StoppedError(Exception):
    """The moment at which a run dies."""


class Mortal(torch.optim.SGD):
    """SGD with momentum; ``left`` counts the steps of all of them, one for each birth."""

    left = math.inf

    def step(self, closure=None):
        Mortal.left -= 1
        if Mortal.left < 0:
            raise StoppedError
        super().step(closure)


def resumed(program: Program) -> None:
    """A run that dies, and is taken up by a program built anew, is the whole run bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        whole, halves = Path(folder, "whole"), Path(folder, "halves")
        expected = lived(program, whole, math.inf)
        with contextlib.suppress(StoppedError):
            lived(program, halves, 3, checkpoint_every=0.0)
        assert 0 < load_checkpoint(halves / "checkpoint.pt")[SEED]["step"] < 6  # it died between
        found = lived(program, halves, math.inf, weights=99, resume=True)
        same(load_checkpoint(halves / "checkpoint.pt"), load_checkpoint(whole / "checkpoint.pt"))
    same(vars(found), vars(expected))


def lived(program: Program, folder: Path, left: float, weights: int = WEIGHTS, **how) -> Trained:
    """Six steps of momentum in ``folder`` (or as said), unless they end after ``left``."""
    made = by_hand.fresh(program, weights)
    Mortal.left = left
    momentum = functools.partial(Mortal, lr=RATE, momentum=0.9)
    how = {"steps": 6, "directory": folder} | how
    return outcome(program, made, ours(program, made, momentum, **how))


def two_seeds(program: Program) -> None:
    """Two seeds in one fit are each seed's training by hand, from weights of its own."""
    made = by_hand.fresh(program)
    run = ours(program, made, seeds=[SEED, SEED + 1])
    for at, seed in enumerate((SEED, SEED + 1)):
        copied = Made(run.programs[at].model, run.programs[at].guide, made.data)
        buffers = buffers_of(run, at, made)
        mine = outcome(program, copied, run, seed, at)
        mine.buffers = buffers
        alone = by_hand.fresh(program)
        if at:
            pyro.set_rng_seed(seed)
            draw_new_weights(alone)
        theirs = by_hand.train(program, alone, seed=seed)
        assert_same(mine, theirs)


def buffers_of(run: Run, at: int, made: Made) -> Values:
    """Copies of one seed's buffers, by the names that ``by_hand`` gives to those of the first."""
    named = [pair for module in made.modules for pair in module.named_buffers()]
    names = {id(b): f"{i}.{name}" for i, (name, b) in enumerate(named)}
    first, own = (dict(run.programs[i].buffers()) for i in (0, at))
    return {names[id(b)]: own[name].clone() for name, b in first.items() if id(b) in names}


def draw_new_weights(made: Made) -> None:
    """As ``reset_parameters`` does, module by module."""
    for module in made.modules:
        for part in module.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
