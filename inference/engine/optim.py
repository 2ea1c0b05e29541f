"""Optimisers for tables of embeddings, of which a step updates few rows."""

from __future__ import annotations

from typing import Any

import torch

from inference.engine.sparse_rows import stored_rows


class SparseAdagrad(torch.optim.Adagrad):
    """Adagrad (Duchi et al. 2011) of sparse and dense gradients alike.

    Adagrad leaves rows with zero gradient unchanged, so updating the other rows alone gives exactly
    the dense algorithm's numbers, in time independent of the table's size.  (A lazy Adam differs
    from Adam: it skips the momentum of rows without a gradient.)
    """

    def step(self, closure: Any = None) -> Any:
        """torch's step; the check of sparse indices is set explicitly, else torch warns."""
        with torch.sparse.check_sparse_tensor_invariants(enable=False):
            return super().step(closure)


class RowwiseSGD(torch.optim.Optimizer):
    """SGD whose update of a row has norm at most ``reach``.

    A frequent word occurs many times in a batch.  word2vec applies its updates one after another,
    each at the updated vector; their sum at the old vector may overshoot and diverge.

    Args:
        params: with sparse or dense gradients; the first dimension indexes rows.
        lr: learning rate.
        reach: largest norm of a row's update.
    """

    def __init__(self, params: Any, lr: float, reach: float) -> None:
        super().__init__(params, {"lr": lr, "reach": reach})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every row that has a gradient."""
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
