"""Every unbiased estimator, as built for a program of the catalogue, and what it accepts."""

import pytest
import torch

from inference.estimators import (
    ARM,
    ARMS,
    CARMS,
    IWAE,
    OVIS,
    REBAR,
    RELAX,
    VIMCO,
    DisARM,
    DReG,
    LeaveOneOut,
    Marginal,
    MovingAverage,
    Pathwise,
    ScoreFunction,
)
from tests.support.catalogue import CASES

BITS = {"Bernoulli", "Normal", "subsampled", "coupled"}
ANY = BITS | {"Categorical", "OneHotCategorical"}
RELAXABLE = ANY - {"Categorical"}
NORMAL = {"Normal"}
CATEGORIES = {"Categorical", "OneHotCategorical", "Normal"}
APART = ANY - {"coupled"}


class Bump(torch.nn.Module):
    """A smooth function of all a site's bits."""

    def __init__(self, event_dim=0):
        super().__init__()
        self.size = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.event_dim = event_dim

    def forward(self, z):
        bump = self.size * torch.tanh(z)
        return bump.flatten(-self.event_dim).sum(-1) if self.event_dim else bump


def event_dim(name):
    return 1 if name in ("one_hot", "attention", "vector_of_bits") else 0


ELBOS = {
    "Pathwise": (lambda name: Pathwise(), NORMAL),
    "Pathwise, analytic": (lambda name: Pathwise(kl="analytic"), NORMAL),
    "Pathwise, landing": (lambda name: Pathwise(2, sticking_the_landing=True), NORMAL),
    "ScoreFunction": (lambda name: ScoreFunction(), ANY),
    "ScoreFunction, average": (lambda name: ScoreFunction(2, baseline=MovingAverage()), ANY),
    "LeaveOneOut": (lambda name: LeaveOneOut(3), ANY),
    "LeaveOneOut, vectorised": (
        lambda name: LeaveOneOut(
            2, vectorize_particles=True, max_plate_nesting=CASES[name].nesting + 1
        ),
        ANY,
    ),
    "ARM": (lambda name: ARM(), BITS),
    "DisARM": (lambda name: DisARM(), BITS),
    "DisARM, vectorised": (
        lambda name: DisARM(2, vectorize_particles=True, max_plate_nesting=CASES[name].nesting + 1),
        BITS,
    ),
    "ARMS": (lambda name: ARMS(3), BITS),
    "ARMS, vectorised": (
        lambda name: ARMS(
            4, 2, vectorize_particles=True, max_plate_nesting=CASES[name].nesting + 1
        ),
        BITS,
    ),
    "CARMS": (lambda name: CARMS(3), CATEGORIES),
    "CARMS, vectorised": (
        lambda name: CARMS(
            2, 2, vectorize_particles=True, max_plate_nesting=CASES[name].nesting + 1
        ),
        CATEGORIES,
    ),
    "Marginal": (lambda name: Marginal(), APART),
    "Marginal, vectorised": (
        lambda name: Marginal(
            2, vectorize_particles=True, max_plate_nesting=CASES[name].nesting + 1
        ),
        APART,
    ),
    "REBAR": (lambda name: REBAR(temperature=0.7, scale=0.8), RELAXABLE),
    "RELAX": (lambda name: RELAX(Bump(event_dim(name)), temperature=0.7), RELAXABLE),
}
BOUNDS = {
    "IWAE": (lambda name: IWAE(2), NORMAL),
    "DReG": (lambda name: DReG(2), NORMAL),
    "VIMCO": (lambda name: VIMCO(2), ANY),
    "OVIS": (lambda name: OVIS(2, gamma=0.0), ANY),
}
WEIGHED = {name for name, case in CASES.items() if case.local or case.units}


def pairs(family, among=None):
    for estimator, (_, accepted) in family.items():
        for name, case in CASES.items():
            if case.kinds <= accepted and (among is None or name in among):
                yield pytest.param(name, estimator, id=f"{estimator}-{name}")


def refused(family):
    for estimator, (_, accepted) in family.items():
        for name, case in CASES.items():
            if not case.kinds <= accepted:
                yield pytest.param(name, estimator, id=f"{estimator}-{name}")
