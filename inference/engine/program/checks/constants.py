"""What a directory knows a program by: its sites' distributions and their constants."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.data.columns import Batch
from inference.util import rng
from inference.util.sites import described

ROWS = 2  # in which constants are looked for


class Dependent(Messenger):
    """Makes draws of latents require a gradient, so that all that depends on them does."""

    def _pyro_post_sample(self, msg: Any) -> None:
        value = msg["value"]
        if not msg["is_observed"] and isinstance(value, Tensor) and value.is_floating_point():
            msg["value"] = value.detach().requires_grad_()


def identified(
    run: Callable[[Batch], Sequence[Trace]], traces: Sequence[Trace], batch: Batch
) -> dict[str, str]:
    """Site → distribution and its constants; families alone where a program fails on two rows.

    A changed prior scale is another program, to which a checkpoint does not belong.

    Args:
        run: the program: columns → traces of model and guide.
        traces: the same, of the batch.
        batch: columns.
    """
    store, few = pyro.get_param_store(), {name: column[:ROWS] for name, column in batch.items()}
    seen: Sequence[Trace | None] = (None, None)
    with (
        store.scope(store.get_state()),
        rng.forked(0),
        torch.enable_grad(),
        Dependent(),
        warnings.catch_warnings(),
        contextlib.suppress(RuntimeError, ValueError, LookupError, TypeError, AssertionError),
    ):
        warnings.simplefilter("ignore")  # those of the whole batch have been given
        seen = run(few)
    model, guide = map(described, traces, seen)
    return model | {f"guide {name}": kind for name, kind in guide.items()}
