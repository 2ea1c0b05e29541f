"""What a glimpse sees: whole pixels or between them, nothing beyond the edge."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from ppl_models.retina import Retina, bilinear, crop

H, W = 6, 10


def images(count=2):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, H, W, generator=generator, dtype=torch.float64)


def place(column, row, count=2):
    """The place whose square has this pixel corner, for squares of side 4."""
    at = torch.tensor([2 * (column + 2) / W - 1, 2 * (row + 2) / H - 1], dtype=torch.float64)
    return at.expand(count, 2)


@pytest.mark.parametrize("read", [crop, bilinear])
@pytest.mark.parametrize(("column", "row"), [(0, 0), (3, 1), (6, 2)])
def test_a_square_within_the_image_is_a_slice(read, column, row):
    x = images()
    seen = read(x, place(column, row), 4)
    torch.testing.assert_close(seen, x[:, :, row : row + 4, column : column + 4])


@pytest.mark.parametrize("read", [crop, bilinear])
def test_beyond_the_edge_is_nothing(read):
    x = images()
    seen = read(x, place(-1, -2), 4)
    expected = torch.zeros_like(seen)
    expected[:, :, 2:, 1:] = x[:, :, :2, :3]
    torch.testing.assert_close(seen, expected)


def test_each_datum_and_each_draw_has_its_own_place():
    x = images(3)
    places = torch.stack([torch.stack([place(c, r, 1)[0] for c in (0, 2, 5)]) for r in (0, 2)])
    for read in (crop, bilinear):
        seen = read(x, places, 4)
        assert seen.shape == (2, 3, 1, 4, 4)
        for draw, row in enumerate((0, 2)):
            for datum, column in enumerate((0, 2, 5)):
                expected = x[datum, :, row : row + 4, column : column + 4]
                torch.testing.assert_close(seen[draw, datum], expected)


def test_a_larger_square_is_seen_at_the_resolution_of_the_smallest():
    x = images()
    both = Retina(2, scales=2)(x, place(3, 1))
    assert both.shape == (2, 2, 2, 2)
    torch.testing.assert_close(both[:, :1], x[:, :, 2:4, 4:6])
    torch.testing.assert_close(both[:, 1:], avg_pool2d(x[:, :, 1:5, 3:7], 2))


def test_a_gradient_flows_to_a_smooth_place_and_none_to_a_sharp_one():
    at = place(2.3, 1.4).clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: bilinear(images(), p, 4), at)
    assert not crop(images(), at, 4).requires_grad
