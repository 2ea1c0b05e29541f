"""An optimizer for a million rows of which a step sees a few hundred."""

from __future__ import annotations

from typing import Any

import torch


class SparseAdagrad(torch.optim.Adagrad):
    """Adagrad (Duchi et al. 2011) of sparse and dense gradients alike.

    A row whose gradient is zero does not move under Adagrad, so that updating the others alone is
    the dense algorithm, number for number, in time that does not grow with the table.  (A lazy
    Adam is another algorithm than Adam: its momentum stops where no gradient comes.)
    """

    def step(self, closure: Any = None) -> Any:
        """Torch's, with its choice not to check its own indices said aloud, lest it warns."""
        with torch.sparse.check_sparse_tensor_invariants(enable=False):
            return super().step(closure)
