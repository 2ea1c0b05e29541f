"""What is not said: an estimator's options are those that its paper, or Pyro, has by default."""

import inspect
import math

import pytest

from inference import estimators

PYROS = {"num_particles": 1, "vectorize_particles": False, "max_plate_nesting": math.inf}
DEFAULTS = {
    "ARM": PYROS,
    "DisARM": PYROS,
    "ARMS": {"antithetic": 4, "num_particles": 1},
    "CARMS": {"antithetic": 4, "num_particles": 1},
    "Marginal": PYROS,
    "CoupledDifference": PYROS,
    "PerSite": {"default": None},
    "IWAE": PYROS,
    "DReG": PYROS,
    "REBAR": {"num_particles": 1, "temperature": 0.5, "scale": 1.0},
    "RELAX": {"num_particles": 1},
    "VIMCO": {"num_particles": 2},
    "OVIS": {"num_particles": 2, "gamma": 1.0},
    "LeaveOneOut": PYROS | {"num_particles": 2},
    "Exact": {"nodes": 32},
    "GumbelSoftmax": {"num_particles": 1, "temperature": 0.5, "hard": False},
    "GumbelRao": {"num_particles": 1, "samples": 10, "temperature": 0.5},
    "ReinMax": {"num_particles": 1, "temperature": 1.0},
    "Pathwise": {"num_particles": 1, "kl": "sampled", "sticking_the_landing": False},
    "ReweightedWakeSleep": {"num_particles": 2, "divergence": "inclusive"},
    "ScoreFunction": {"num_particles": 1, "baseline": None, "normalise": False},
    "MovingAverage": {"decay": 0.9, "shared": False},
    "NeuralBaseline": {"decay": 0.9},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults(name):
    arguments = inspect.signature(getattr(estimators, name)).parameters.values()
    found = {a.name: a.default for a in arguments if a.default is not a.empty}
    assert found == DEFAULTS[name]


def test_what_is_biased_says_so():
    classes = (getattr(estimators, name) for name in estimators.__all__)
    kinds = [c for c in classes if issubclass(c, estimators.Estimator)]
    biased = {
        "GumbelRao",
        "GumbelSoftmax",
        "OVIS",
        "ReinMax",
        "ReweightedWakeSleep",
        "Wrapped",
    }  # of what it wraps it knows nothing
    assert {c.__name__ for c in kinds if not c.unbiased} == biased


@pytest.mark.parametrize("name", ["ARM", "IWAE", "REBAR", "VIMCO", "LeaveOneOut", "Pathwise"])
def test_options_of_pyro_s_are_kept(name):
    kind = getattr(estimators, name)
    given = kind(5, max_plate_nesting=3)
    assert (given.num_particles, given.max_plate_nesting) == (5, 3)
    assert kind(5, vectorize_particles=True).vectorize_particles
