"""What is recorded of a site: its own scale, the name that its steps share, mixed rows."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from inference.results.draws.rows import _mixed
from inference.results.draws.sites import _stem, recorded

BATCH = torch.zeros(4)


def in_part_of_a_plate(scale):
    """Four of ten rows, under ``poutine.scale``."""

    def model():
        with pyro.plate("data", 10, subsample=BATCH), poutine.scale(scale=scale):
            pyro.sample("x", dist.Normal(torch.zeros(4), 1.0), obs=BATCH)

    return poutine.trace(model).get_trace()


@pytest.mark.parametrize(
    ("scale", "own"), [(1.0, 1.0), (0.5, 0.5), (torch.tensor([1.0, 2.0, 1.0, 1.0]), math.nan)]
)
def test_a_site_s_own_scale_is_without_that_of_its_plates(scale, own):
    found = recorded(in_part_of_a_plate(scale), 1)["x"].scale
    assert found == pytest.approx(own, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "steps", "stem"),
    [
        ("x_3", [("t", 3, 5)], "x"),
        ("x2_3", [("t", 3, 5)], "x2"),
        ("x2_3", [("t", 2, 5)], "x_3"),
        ("x_1_y_1", [("t", 1, 5)], "x_1_y"),
        ("x_3_1", [("t", 3, 5), ("u", 1, 2)], "x"),
        ("x", [("t", 3, 5)], "x"),
    ],
)
def test_the_stem_is_the_name_without_its_last_index(name, steps, stem):
    assert _stem(name, steps) == stem


def test_mixed_rows_alternate_along_their_plate():
    zeros, ones = torch.zeros(2, 3), torch.ones(2, 3)
    assert _mixed(zeros, ones, -2).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert _mixed(zeros, ones, -1).tolist() == [[0, 1, 0], [0, 1, 0]]
