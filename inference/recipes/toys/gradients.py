"""Many one-draw gradients at once, for the recipes of toys."""

from __future__ import annotations

from pyro.nn import PyroModule
from torch import Tensor, zeros

from inference.estimators import Estimator


def one_draw_gradients(
    estimator: Estimator, model: PyroModule, guide: PyroModule, parameter: Tensor
) -> Tensor:
    """(R,) the loss's gradient in each entry of a parameter (R,), each entry with its own draw.

    Also accumulates the gradients of the estimator's own parameters in their ``.grad``.
    """
    parameter.grad = None
    estimator.loss_and_grads(model, guide, zeros(len(parameter)))
    assert parameter.grad is not None
    return parameter.grad
