"""What is weighed together: sets of sites that one latent reaches, by their shared plates."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.estimators.coupling import (
    coupled,
    latent_dependencies,
    merge_overlapping,
    shared_plates,
)
from inference.estimators.ledger import read_ledger
from inference.estimators.programs import ModelAndGuide


def sets(model, guide):
    programs = ModelAndGuide(model, guide, (), {})
    draw = programs.run()
    ledger = read_ledger([draw])
    return {tuple(sorted(s)) for s in coupled(ledger, programs, draw[1])}, ledger, programs, draw


def normal(name, loc=0.0):
    return pyro.sample(name, dist.Normal(loc, 1.0))


def observed(name, loc):
    pyro.sample(name, dist.Normal(loc, 1.0), obs=torch.tensor(0.3))


def two_local():
    """One plate: what comes after the first latent is one set, whatever it depends on."""

    def model():
        with pyro.plate("d", 3):
            observed("before", torch.zeros(3))
            a, b = normal("a"), normal("b")
            observed("x", a)
            observed("y", b)

    def guide():
        with pyro.plate("d", 3):
            normal("a")
            normal("b")

    return model, guide, {("a", "b", "x", "y")}


def side_by_side():
    """Plates that share nothing: units of their own; a site that no latent reaches is in none."""

    def model():
        with pyro.plate("d", 3):
            observed("x", normal("a"))
        with pyro.plate("e", 2):
            observed("y", normal("b"))
        observed("free", torch.zeros(()))

    def guide():
        with pyro.plate("d", 3):
            normal("a")
        with pyro.plate("e", 2):
            normal("b")

    return model, guide, {("a", "x"), ("b", "y")}


def joined():
    """A term of both latents makes them one."""

    def model():
        with pyro.plate("d", 3):
            a = normal("a")
        b = normal("b")
        observed("x", a.sum() + b)

    def guide():
        with pyro.plate("d", 3):
            normal("a")
        normal("b")

    return model, guide, {("a", "b", "x")}


def same_plates():
    """Two latents of a plate, and a third elsewhere: the two are one datum's."""

    def model():
        with pyro.plate("d", 3):
            observed("x", normal("a"))
            observed("y", normal("b"))
        with pyro.plate("e", 2):
            normal("c")

    def guide():
        with pyro.plate("d", 3):
            normal("a")
            normal("b")
        with pyro.plate("e", 2):
            normal("c")

    return model, guide, {("a", "b", "x", "y"), ("c",)}


def none():
    def model():
        observed("x", torch.zeros(()))

    def guide():
        pass

    return model, guide, set()


@pytest.mark.parametrize("build", [two_local, side_by_side, joined, same_plates, none])
def test_sets(build):
    model, guide, expected = build()
    assert sets(model, guide)[0] == expected


def test_dependencies_are_of_model_and_guide():
    _, _, programs, draw = sets(*joined()[:2])
    found = latent_dependencies(programs, draw[1])
    assert sorted(map(sorted, found)) == [["a"], ["a"], ["a", "b", "x"], ["b"], ["b"]]


def test_shared_plates_are_those_of_every_term():
    _, ledger, _, _ = sets(*side_by_side()[:2])
    assert shared_plates(ledger.only({"a", "x"})) == {"d": -1}
    assert shared_plates(ledger) == {}
    _, ledger, _, _ = sets(*joined()[:2])
    assert shared_plates(ledger.only({"a", "b"})) == {}


def test_overlapping_sets_are_merged():
    given = [frozenset(s) for s in ("ab", "cd", "ef", "bc", "g")]
    assert merge_overlapping(given) == [frozenset("ef"), frozenset("abcd"), frozenset("g")]
