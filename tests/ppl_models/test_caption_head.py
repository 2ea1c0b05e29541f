"""Captions of a code: the captioner's words, where a row has a caption; by attention or none."""

import pyro
import pytest
import torch
from pyro import poutine

from guides.deconvolutional import Convolutional
from inference.estimators import GumbelSoftmax
from ppl_models.caption_head import NO_CAPTION, Caption, features
from ppl_models.captioner import END, Captioner, SoftAttention
from ppl_models.deconvolutional import Deconvolutional, Layer, levels

B, WORDS = 3, 7
Y = torch.tensor([[2, 3, END], [4, END, END], [NO_CAPTION] * 3])
LEVELS = levels((5, 4, 4), [Layer(3, 1, 2), Layer(2, 1)])


def head(attention):
    torch.manual_seed(0)
    code = LEVELS[-1].pooled  # (2, 2, 2)
    width = features(code, attention)
    captioner = Captioner(width, WORDS, 6, 6, 4, dropout=0.0)
    return Caption(captioner, code, attention).double()


@pytest.mark.parametrize("attention", [False, True])
def test_it_says_what_the_captioner_says(attention):
    its = head(attention)
    s = torch.randn(B, 8)
    a = s.reshape(B, 2, 4).mT if attention else s[:, None]
    with pyro.plate("data", B):
        said = poutine.trace(its).get_trace(s, Y)
    soft = SoftAttention(its.captioner, 2, penalty=0.0)
    expected = poutine.trace(soft).get_trace(a[:2], Y[:2])
    for trace in (said, expected):
        trace.compute_log_prob()
    found = said.nodes["y"]["log_prob"]
    torch.testing.assert_close(found[:2], expected.nodes["y"]["log_prob"])
    assert found[2] == 0


def test_draws_together_are_draws_one_by_one():
    its, s = head(True), torch.randn(5, B, 8)
    with pyro.plate("draws", 5, dim=-2), pyro.plate("data", B, dim=-1):
        together = poutine.trace(its).get_trace(s, Y)
    for k in range(5):
        with pyro.plate("data", B):
            alone = poutine.trace(its).get_trace(s[k], Y)
        logs = [t.nodes["y"]["fn"].log_prob(Y.clamp(min=0)) for t in (alone, together)]
        torch.testing.assert_close(logs[0], logs[1][k])


def test_a_picture_without_a_caption_teaches_the_words_nothing():
    model = Deconvolutional(LEVELS, 1, head(False), weight=3.0).double()
    guide = Convolutional(model).double()
    x = torch.randn(B, 5, 4, 4)
    estimator = GumbelSoftmax(max_plate_nesting=1)
    for row, silent in ((0, False), (2, True)):
        one = slice(row, row + 1)
        loss = estimator.differentiable_loss(model, guide, x[one], Y[one])
        slopes = torch.autograd.grad(loss, [model.head.captioner.say.weight, model.dictionaries[0]])
        assert bool((slopes[0] == 0).all()) == silent
        assert bool((slopes[1] != 0).any())
