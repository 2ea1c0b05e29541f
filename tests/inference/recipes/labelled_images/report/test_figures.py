"""What the report's figures are computed from."""

import torch

from guides.deconvolutional import Convolutional
from inference.recipes.labelled_images.report.figures import mean_code
from ppl_models.convolution import convolve
from ppl_models.deconvolutional import Deconvolutional, Layer, levels
from ppl_models.unpooling import blocks


def test_the_mean_code_reads_each_block_at_its_expected_place_and_draws_nothing():
    torch.manual_seed(0)
    guide = Convolutional(Deconvolutional(levels((1, 8, 8), [Layer(3, 3, 2), Layer(4, 3)]), 5))
    x = torch.rand(5, 1, 8, 8)
    before = torch.get_rng_state()
    with torch.no_grad():
        code = mean_code(guide, x)
        cells = blocks(convolve(x, guide.encoder.filters[0]), 2)
        expected = (cells * guide.encoder.where["1"](cells).softmax(-1)).sum(-1)
        by_hand = guide.encoder.describe(convolve(expected, guide.encoder.filters[1])).mean
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(code, by_hand)
