"""One graph does what several do in turn: operations, noise, what is changed in place."""

import pytest
import torch
from torch import nn

from inference import UserError
from inference.engine.capture.graph import capture
from inference.engine.capture.vectorised import vectorised

SHARED = torch.randn(3, 4)


def rows(w, x):
    y = w * 1
    y[1:] = x[1:]
    return y


def strided(w, x):
    y = w * x
    y.view(-1)[::5] += 1
    return y


def normed(w, x):
    parts = (w * x).unbind()
    return torch.stack(torch._foreach_norm(parts)) + torch.stack(torch._foreach_mul(parts, 2)).sum()


def noisy(w, x):
    return w * torch.randn_like(x) + torch.empty(3, 4).normal_() * torch.bernoulli(w.sigmoid())


def shared(w, x):
    return nn.functional.dropout(w, 0.5) * SHARED + torch.zeros(3, 4).add_(x)


def stack(tensors):
    return tensors[0] if all(t is tensors[0] for t in tensors) else torch.stack(tensors)


def graphs(function, count=3):
    """Of each (loss, gradient), which also count their calls in a buffer."""
    torch.manual_seed(0)
    xs, found = [torch.randn(3, 4) for _ in range(count)], []
    for x in xs:
        w, calls = torch.randn(3, 4, requires_grad=True), torch.zeros(())

        def run(x=x, w=w, calls=calls):
            loss = function(w, x).square().sum()
            calls.add_(loss.detach())
            return [loss, None, *torch.autograd.grad(loss, [w])]

        found.append(capture(run, [x]))
    return found, xs


@pytest.mark.parametrize("function", [rows, strided, normed, noisy, shared])
def test_the_same_outputs_and_changes(function):
    each, xs = graphs(function)
    whole = vectorised(each, [torch.stack(xs)], stack)
    noise = whole.draw_noise()
    found = whole.module(torch.stack(xs), *noise, *whole.held)
    for i, (graph, x) in enumerate(zip(each, xs, strict=True)):
        own = noise[i * len(graph.draws) :][: len(graph.draws)]
        wanted = graph.module(x, *own, *graph.held)
        for mine, theirs in zip(found, wanted, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                torch.testing.assert_close(mine[i], theirs)
        for mine, theirs in zip(whole.held, graph.held, strict=True):
            torch.testing.assert_close(mine if mine is SHARED else mine[i], theirs.detach())


def counted(w, x):
    SHARED.add_(x)
    return w * SHARED


def test_what_all_change_is_refused():
    each, xs = graphs(counted)
    with pytest.raises(UserError, match=r"cannot be one .*: leave out seeds_at_once"):
        vectorised(each, [torch.stack(xs)], stack)


def test_other_operations_are_refused():
    each = [graphs(f, 1)[0][0] for f in (rows, strided)]
    with pytest.raises(UserError, match="do not all do the same"):
        vectorised(each, [torch.randn(2, 3, 4)], stack)
