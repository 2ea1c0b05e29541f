"""Where a NaN was born: the first parameter, value or term of a program that is not finite."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.data.columns import Batch
from inference.engine.processes import Processes
from inference.engine.program.program import Program
from inference.engine.sparse_rows import stored_values
from inference.util.errors import UserError
from inference.util.sites import is_site


def explain(program: Program, batch: Batch, step: int, processes: Processes) -> UserError:
    """The error to raise when a step's bound or gradient is not finite (within ``scope``).

    Several processes look each at its own rows, and say what the first has found that found any.
    """
    try:
        found = _first(program, batch)
    except ValueError as error:  # a distribution refused a NaN argument
        found = f"a distribution refused its argument ({str(error).splitlines()[0]})"
    culprits = filter(None, processes.gather(found))
    culprit = next(culprits, "no site alone is non-finite: their sum overflows")
    return UserError(
        f"the bound or its gradient is not finite at step {step}: {culprit}. "
        "Nothing of this step was applied; lower the learning rate, clip the gradient's norm, "
        "or bound that site's parameters"
    )


def _first(program: Program, batch: Batch) -> str | None:
    for column, tensor in batch.items():
        if not _finite(tensor):
            return f"column {column!r} holds a non-finite value"
    for name, parameter in program.parameters.items():
        if not _finite(parameter):
            return f"parameter {name!r} is not finite"
    for parameter in program.parameters.values():
        parameter.grad = None
    model_trace, guide_trace = program.traces(batch)
    for side, trace in (("guide", guide_trace), ("model", model_trace)):
        if found := _first_site(side, trace, list(program.parameters.values())):
            return found
    return None


def _first_site(side: str, trace: Trace, parameters: list[Tensor]) -> str | None:
    trace.compute_log_prob()
    for name, site in trace.nodes.items():
        if not is_site(site):
            continue
        if not _finite(site["value"]):
            return f"site {name!r} of the {side} drew a non-finite value"
        if not _finite(site["log_prob_sum"]):
            return f"the log-probability of site {name!r} in the {side} is not finite"
        if site["log_prob_sum"].requires_grad:
            gradients = torch.autograd.grad(
                site["log_prob_sum"], parameters, retain_graph=True, allow_unused=True
            )
            if not all(_finite(g) for g in gradients if g is not None):
                return f"the gradient of site {name!r}'s log-probability in the {side} is not"
    return None


def _finite(tensor: Any) -> bool:
    tensor = stored_values(tensor.coalesce() if tensor.is_sparse else tensor)
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
