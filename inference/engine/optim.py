"""Optimizers for a million rows of which a step sees a few hundred."""

from __future__ import annotations

from typing import Any

import torch

from inference.engine.sparse_rows import stored_rows


class SparseAdagrad(torch.optim.Adagrad):
    """Adagrad (Duchi et al. 2011) of sparse and dense gradients alike.

    A row whose gradient is zero does not move under Adagrad, so that updating the others alone is
    the dense algorithm, number for number, in time that does not grow with the table.  (A lazy
    Adam is another algorithm than Adam: its momentum stops where no gradient comes.)
    """

    def step(self, closure: Any = None) -> Any:
        """Torch's own step; told not to check sparse indices, or it warns that it does not."""
        with torch.sparse.check_sparse_tensor_invariants(enable=False):
            return super().step(closure)


class RowwiseSGD(torch.optim.Optimizer):
    """SGD that moves no row farther than ``reach`` in a step.

    A frequent word stands many times in a batch.  One after another, as word2vec takes them, its
    updates would soften each other; summed, they may overshoot, and the next ones overshoot more.

    Args:
        params: with sparse or dense gradients; a row is what the first dimension counts.
        lr: learning rate.
        reach: greatest length of a row's step.
    """

    def __init__(self, params: Any, lr: float, reach: float) -> None:
        super().__init__(params, {"lr": lr, "reach": reach})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Every row of which there is a gradient."""
        loss = closure and torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    at, gradient = stored_rows(parameter.grad)
                    length = gradient.unsqueeze(-1).flatten(1).norm(dim=1).mul_(group["lr"])
                    factor = (group["reach"] / length).clamp_(max=1).mul_(-group["lr"])
                    parameter.index_add_(
                        0, at, gradient * factor.reshape(-1, *[1] * (gradient.dim() - 1))
                    )
        return loss
