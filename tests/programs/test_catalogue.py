"""Every program of the catalogue against Pyro, facet by facet: equal, or refused by a sentence.

``tests/support/against_pyro`` says what is compared with what.
"""

import re

import pytest

from inference import UserError
from tests.programs import PROGRAMS, Program
from tests.programs.expected import WRONG, refusal
from tests.support.against_pyro import FACETS

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


def test_there_are_programs_of_every_family():
    families = {program.family for program in PROGRAMS.values()}
    assert len(families) == 12
    assert len(PROGRAMS) >= 100
