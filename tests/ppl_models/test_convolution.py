"""Convolution by patches is the library's, and its adjoint is one."""

import pytest
import torch
import torch.nn.functional as F

from ppl_models.convolution import convolve, deconvolve, sum_of_patches
from ppl_models.unpooling import blocks, pool, tiled, unpool


@pytest.mark.parametrize("channels", [1, 3, 6], ids=["grey", "colours", "maps"])
@pytest.mark.parametrize("margin", [0, 1])
def test_both_are_the_librarys(channels, margin):
    x, filters = torch.randn(2, 3, channels, 9, 10), torch.randn(5, channels, 3, 3)
    maps = convolve(x, filters, margin)
    rows = F.conv2d(x.flatten(0, 1), filters, padding=margin)
    torch.testing.assert_close(maps.flatten(0, 1), rows)
    back = F.conv_transpose2d(rows, filters, padding=margin)
    torch.testing.assert_close(deconvolve(maps, filters, margin).flatten(0, 1), back)


@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("margin", [0, 1])
def test_one_is_the_adjoint_of_the_other(channels, margin):
    x, filters = torch.randn(2, channels, 8, 7), torch.randn(5, channels, 3, 3)
    read = convolve(x, filters, margin)
    maps = torch.randn_like(read)
    made = deconvolve(maps, filters, margin)
    torch.testing.assert_close((read * maps).sum(), (x * made).sum())


def test_gradients_by_differences():
    patches = torch.randn(2, 3, 3, 2, 4, 5, requires_grad=True)
    assert torch.autograd.gradcheck(sum_of_patches, patches)
    x, filters = torch.randn(2, 1, 6, 5), torch.randn(2, 1, 3, 3)
    inputs = [t.requires_grad_() for t in (x, filters)]
    assert torch.autograd.gradcheck(convolve, inputs)
    maps = convolve(x, filters).detach().requires_grad_()
    assert torch.autograd.gradcheck(deconvolve, (maps, filters))


def test_blocks_are_squares_of_a_map_and_tiled_puts_them_back():
    maps = torch.arange(24.0).reshape(1, 4, 6)
    assert blocks(maps, 2)[0, 1, 2].tolist() == [16, 17, 22, 23]
    torch.testing.assert_close(tiled(blocks(maps, 2), 2), maps)


def test_pooling_reads_where_unpooling_puts():
    small, maps = torch.randn(3, 2, 2), torch.randn(3, 6, 6)
    z = F.one_hot(torch.randint(9, (3, 2, 2)), 9).double()
    put = unpool(small, z, 3)
    assert int((put != 0).sum()) == small.numel()
    torch.testing.assert_close(pool(put, z, 3), small)
    torch.testing.assert_close((put * maps).sum(), (small * pool(maps, z, 3)).sum())
