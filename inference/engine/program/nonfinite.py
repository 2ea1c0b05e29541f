"""Where a NaN comes from: the first parameter, value or term of a program that is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from inference.data.columns import Batch
from inference.engine.processes import Processes
from inference.engine.program.program import Program
from inference.engine.sparse_rows import stored_values
from inference.estimators.programs import StochasticFunction
from inference.util.errors import UserError
from inference.util.sites import is_site, sample_sites

REMEDY = "lower the learning rate, clip the gradient's norm, or bound that site's parameters"
REFUSALS = (
    "Expected parameter",
    "Expected value argument",
)  # torch's, of distributions


@contextmanager
def explained(program: Program, batch: Batch) -> Iterator[None]:
    """Turn a distribution's ``ValueError`` about an argument (a scale of 0) into a ``UserError``.

    Other errors of the program pass unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except (ValueError, torch.linalg.LinAlgError) as error:
        if not any(_is_of_numbers(cause) for cause in _causes(error)):
            raise
        with torch.no_grad():
            found = _first_refusal(program, batch) or _words(error)
        raise UserError(f"{found}; {REMEDY}") from error


def explain(program: Program, batch: Batch, step: int, processes: Processes) -> UserError:
    """The error to raise when a step's bound or gradient is not finite (within ``scope``).

    Each of several processes checks its own rows; the first finding, by rank, is reported.
    """
    try:
        found = _first(program, batch)
    except (ValueError, torch.linalg.LinAlgError) as error:
        found = _first_refusal(program, batch) or _words(error)
    culprits = filter(None, processes.gather(found))
    culprit = next(culprits, "no site alone is non-finite: their sum overflows")
    return UserError(
        f"the bound or its gradient is not finite at step {step}: {culprit}. "
        f"Nothing of this step was applied; {REMEDY}"
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


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_of_numbers(error: BaseException) -> bool:
    refused = any(words in str(error) for words in REFUSALS)
    return refused or isinstance(error, torch.linalg.LinAlgError)


def _first_refusal(program: Program, batch: Batch) -> str | None:
    """Run the program once more, and describe the first non-finite number in it."""
    broken = [n for n, p in program.parameters.items() if not _finite(p)]
    if broken:
        return f"parameter {broken[0]!r} is not finite"
    program.caches.forget()
    guide_trace, found = _stopped("guide", program.guide, batch)
    if found is not None:
        return found
    return _stopped("model", poutine.replay(program.model, trace=guide_trace), batch)[1]


def _stopped(side: str, callee: StochasticFunction, batch: Batch) -> tuple[Trace, str | None]:
    """The trace up to an error, and the error."""
    tracer = poutine.trace(callee)
    try:
        tracer(**batch)
        tracer.trace.compute_log_prob()
    except (ValueError, torch.linalg.LinAlgError) as error:
        sites, first = list(sample_sites(tracer.trace)), str(error).splitlines()[0]
        where = f"after site {sites[-1]!r}" if sites else "before its first site"
        if " at site " in first:  # Pyro's error for a trace's log-probability
            where = f"at site {first.split(' at site ')[1].rstrip(':')}"
        return tracer.trace, f"{_words(error)}, in the {side}, {where}"
    return tracer.trace, None


def _words(error: BaseException) -> str:
    """The error in words: the distribution, its argument, and the number."""
    *_, first = _causes(error)
    trace = first.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    local = trace.tb_frame.f_locals if trace is not None else {}
    about = str(first).splitlines()[0]
    if "Expected parameter" not in about or not isinstance(local.get("value"), Tensor):
        return about[:200]
    value, constraint = local["value"], local["constraint"]
    bad = value[~local["valid"]] if local["valid"].shape == value.shape else value
    number = float(bad.flatten()[0])
    kind = type(local["self"]).__name__
    return f"the {local['param']} of a {kind} became {number:g}, which is not {constraint}"
