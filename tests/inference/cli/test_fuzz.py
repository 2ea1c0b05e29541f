"""Damaged files of every kind, 5,000 and more: read rightly or refused in one sentence."""

import os

import pytest

from tests.support.files.samples import KINDS
from tests.support.files.watched import watched

EACH = int(os.environ.get("LOWERBOUND_FUZZ", 170))  # × 31 kinds
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_file_holds(kind, tmp_path):
    """0 tracebacks, 0 hangs, 0 over 1 GB, nothing of others' changed, nothing executed."""
    wrong = watched(kind, range(EACH), tmp_path)
    assert not wrong, next(iter(wrong.items()))
