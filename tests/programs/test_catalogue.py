"""Every program of the catalogue against Pyro, facet by facet: equal, or refused by a sentence.

``tests/support/against_pyro`` says what is compared with what.
"""

import random
import re
import shutil
import subprocess
import sys
import time

import pytest

from inference import UserError
from inference.util.files import load_checkpoint
from tests.programs import PROGRAMS, Program
from tests.programs.expected import WRONG, refusal
from tests.support.against_pyro import FACETS
from tests.support.against_pyro.by_hand import SEED
from tests.support.killed_program import STEPS, train
from tests.support.training import same

EVERY_DAY = {
    "ELBO": 4,  # every so many-th program; the others are among the slow tests
    "SGD": 2,
    "posterior": 6,
    "audit": 60,
    "compile": 20,
    "resume": 12,
    "seeds": 12,
}


def cells():
    for facet, every in EVERY_DAY.items():
        for number, program in enumerate(PROGRAMS.values()):
            marks = [pytest.mark.slow] if number % every else []
            if reason := WRONG.get((program.name, facet)):
                marks.append(pytest.mark.xfail(strict=True, reason=reason))
            yield pytest.param(program, facet, id=f"{program.name}-{facet}", marks=marks)


@pytest.mark.filterwarnings("ignore:the trace holds")  # names that a file cannot hold
@pytest.mark.parametrize(("program", "facet"), list(cells()))
def test_is_pyros(program: Program, facet: str):
    words = refusal(program.name, facet)
    if words is None:
        FACETS[facet](program)
    else:
        with pytest.raises(UserError, match=re.escape(words)):
            FACETS[facet](program)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the trace holds")
@pytest.mark.parametrize("name", list(PROGRAMS)[::10])
def test_a_killed_process_resumes_bit_for_bit(name, tmp_path):
    """SIGKILL at a random moment; a program built anew in another process goes on."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = train(name, whole)
    moments, span = random.Random(name), 0.4
    while killed_at(name, killed, moments.uniform(0, span)) == STEPS:  # it was too fast
        shutil.rmtree(killed)
        span *= 0.5
    found = train(name, killed, weights=99)
    same(load_checkpoint(killed / "checkpoint.pt"), load_checkpoint(whole / "checkpoint.pt"))
    same(vars(found), vars(expected))


def killed_at(name, directory, seconds):
    """The step of the checkpoint that a training leaves, killed so long after its first."""
    command = [sys.executable, "-m", "tests.support.killed_program", name, str(directory)]
    process = subprocess.Popen(command)
    while process.poll() is None and not (directory / "checkpoint.pt").exists():
        time.sleep(0.002)
    time.sleep(seconds)
    process.kill()
    process.wait()
    return load_checkpoint(directory / "checkpoint.pt")[SEED]["step"]


def test_there_are_programs_of_every_family():
    families = {program.family for program in PROGRAMS.values()}
    assert len(families) == 12
    assert len(PROGRAMS) >= 100
