"""Views are shared, and the numbers stay: also where what they see is changed in place."""

import pytest
import torch

from inference.engine.capture.graph import capture

aten = torch.ops.aten


def count(graph, operation):
    return sum(node.target is operation for node in graph.module.graph.nodes)


def again(x):
    return [x.t().t().detach() @ x.t() + x[:1] * x[:1]]


def changed(x):
    y = x + 1
    before = y.t() * 2
    y.mul_(3)
    return [before, y.t() * 2, y[0]]


def reshaped(x):
    y = x + 1
    y.t().unsqueeze_(0)
    return [y.t() * 1]


@pytest.mark.parametrize("function", [again, changed, reshaped])
def test_the_numbers_are_as_before(function):
    x = torch.randn(3, 3)
    graph = capture(lambda: function(x), [x])
    for found, wanted in zip(graph.module(x), function(x), strict=True):
        assert torch.equal(found, wanted)


def test_each_view_is_there_once():
    x = torch.randn(3, 3)
    graph = capture(lambda: again(x), [x], share=False)
    assert count(graph, aten.detach.default) == 0
    assert count(graph, aten.t.default) == count(graph, aten.slice.Tensor) == 1
