"""Every test starts from an empty parameter store, a fixed seed and float64."""

from functools import partialmethod

import pyro
import pytest
import torch

from inference.engine.capture.backends import interpreted
from inference.engine.capture.captured import Captured


@pytest.fixture(autouse=True)
def _clean():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(params=["interpreted", pytest.param("compiled", marks=pytest.mark.slow)])
def _backend(request, monkeypatch):
    """What is captured runs operation by operation; compiled in the slow tests."""
    if request.param == "interpreted":
        patched = partialmethod(Captured.__init__, backend=interpreted)
        monkeypatch.setattr(Captured, "__init__", patched)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
