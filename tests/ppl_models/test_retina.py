"""What a glimpse sees: whole pixels or between them, nothing beyond the edge."""

import pytest
import torch
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from ppl_models.retina import Retina

H, W = 6, 10
BOTH = pytest.mark.parametrize("smooth", [False, True])


def images(count=2):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, H, W, generator=generator, dtype=torch.float64)


def place(column, row, count=2):
    """The place whose square has this pixel corner, for squares of side 4."""
    at = torch.tensor([2 * (column + 2) / W - 1, 2 * (row + 2) / H - 1], dtype=torch.float64)
    return at.expand(count, 2)


@BOTH
@pytest.mark.parametrize(("column", "row"), [(0, 0), (3, 1), (6, 2)])
def test_a_square_within_the_image_is_a_slice(smooth, column, row):
    x = images()
    seen = Retina(4, smooth=smooth)(x, place(column, row))
    torch.testing.assert_close(seen, x[:, :, row : row + 4, column : column + 4])


@BOTH
def test_beyond_the_edge_is_nothing(smooth):
    x = images()
    seen = Retina(4, smooth=smooth)(x, place(-1, -2))
    expected = torch.zeros_like(seen)
    expected[:, :, 2:, 1:] = x[:, :, :2, :3]
    torch.testing.assert_close(seen, expected)


@BOTH
def test_each_datum_and_each_draw_has_its_own_place(smooth):
    x = images(3)
    places = torch.stack([torch.stack([place(c, r, 1)[0] for c in (0, 2, 5)]) for r in (0, 2)])
    seen = Retina(4, smooth=smooth)(x, places)
    assert seen.shape == (2, 3, 1, 4, 4)
    for draw, row in enumerate((0, 2)):
        for datum, column in enumerate((0, 2, 5)):
            expected = x[datum, :, row : row + 4, column : column + 4]
            torch.testing.assert_close(seen[draw, datum], expected)


@BOTH
def test_a_larger_square_is_seen_at_the_resolution_of_the_smallest(smooth):
    x = images()
    both = Retina(2, 2, smooth)(x, place(3, 1))
    assert both.shape == (2, 2, 2, 2)
    torch.testing.assert_close(both[:, :1], x[:, :, 2:4, 4:6])
    torch.testing.assert_close(both[:, 1:], avg_pool2d(x[:, :, 1:5, 3:7], 2))


@pytest.mark.parametrize(("column", "row"), [(2.3, 1.4), (-3.7, 4.9), (9.2, -1.1)])
def test_a_smooth_square_is_torchs_own_bilinear_read(column, row):
    x, at = images(), place(column, row)
    scale = torch.diag(torch.tensor([8 / W, 8 / H], dtype=x.dtype)).expand(2, 2, 2)
    grid = affine_grid(torch.cat([scale, at[..., None]], -1), [2, 1, 8, 8], align_corners=False)
    expected = avg_pool2d(grid_sample(x, grid, align_corners=False), 4)
    seen = Retina(2, 3, smooth=True)(x, at)
    torch.testing.assert_close(seen[:, 2:], expected)


def test_a_gradient_flows_to_a_smooth_place_and_none_to_a_sharp_one():
    at = place(2.3, 1.4).clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: Retina(2, 2, smooth=True)(images(), p), at)
    assert not Retina(2, 2)(images(), at).requires_grad
