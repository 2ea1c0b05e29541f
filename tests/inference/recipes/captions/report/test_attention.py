"""Where a captioner looked: glows and points lie where the attention does, in the PNG, too."""

import matplotlib.image
import numpy as np
import pytest
import torch

from inference.recipes.captions.report.attention import STRONGEST, plot_attention
from inference.util.errors import UserError
from tests.support.attended import example


def test_a_glow_is_strongest_where_a_word_looks_most():
    glow = example().glow()
    assert glow.shape == (3, 2, 4, 4)
    np.testing.assert_allclose(glow[:, 1, 2, 3], STRONGEST)
    np.testing.assert_allclose(glow[:, 0, 0, 3], STRONGEST * 0.05 / 0.65)


def test_a_point_lies_in_the_middle_of_the_drawn_location():
    assert example().points() == [(3.5 / 4, 0.5 / 2)] * 3
    assert example(places=None).points() == [None] * 3


@pytest.mark.parametrize("words", [(), ("a",), tuple("abcdefghij")])
@pytest.mark.parametrize("size", [(60, 40), (40, 60)])
def test_the_png_has_a_panel_for_each_word(tmp_path, words, size):
    plot_attention(example(words=words, size=size), tmp_path / "looked.png")
    pixels = matplotlib.image.imread(tmp_path / "looked.png")[..., :3]
    points = (np.abs(pixels - [0, 0xE5 / 255, 1]) < 0.02).all(-1)
    glows = (pixels[..., 0] - pixels[..., 2] > 0.3).sum()
    assert (points.sum() > 30 * len(words)) == bool(words)
    assert (glows > 50 * len(words)) == bool(words)


def test_each_word_needs_attention():
    with pytest.raises(UserError, match=r"attention to x.jpg has shape \(1, 2, 4\): .* 3 words"):
        example(attention=torch.ones(1, 2, 4))
    with pytest.raises(UserError, match=r"shape \(4, 8\)"):
        example(attention=torch.ones(4, 8))
