"""The examples in docstrings run, and print what they say they print."""

import doctest
import importlib
import pkgutil

import pyro
import pytest

from inference import estimators, workflow

ROOMS = (estimators, workflow)
MODULES = [f"{r.__name__}.{m.name}" for r in ROOMS for m in pkgutil.iter_modules(r.__path__)]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a run directory may be written
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert not failed


@pytest.mark.parametrize("name", sorted({*estimators.__all__} - {"Estimator"}))
def test_every_estimator_has_one(name):
    assert ">>> " in (getattr(estimators, name).__doc__ or "")
