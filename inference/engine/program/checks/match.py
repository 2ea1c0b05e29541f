"""Whether a guide fits its model: the same latents, of the same shapes, in the same plates."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import broadcast_shape
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.util import check_model_guide_match

from inference.data.columns import Batch, row_count
from inference.engine.program.checks.plates import frames_of
from inference.estimators.programs import StochasticFunction
from inference.util import rng
from inference.util.errors import UserError
from inference.util.sites import distribution_name, is_factor, sample_sites

Traces = tuple[Trace, Trace]
SLIPS = (RuntimeError, ValueError, IndexError)
DTYPE_WORDS = (
    *("dtype", "scalar type", "LongTensor", "Float", "Double", "tensors used as indices"),
    "bool tensor",
)


def matching(
    traces: Callable[[Batch], Traces],
    model: StochasticFunction,
    guide: StochasticFunction,
    batch: Batch,
) -> Traces:
    """``traces(batch)`` of model and guide, if they match.

    Raises:
        UserError: they do not match; or shapes differ, so that they fail together but not alone.
    """
    with slips_refused(model, guide, batch):
        model_trace, guide_trace = traces(batch)
        _refuse_sites(sample_sites(model_trace), sample_sites(guide_trace))
        with rng.forked():
            _refuse_plates(poutine.trace(model).get_trace(**batch), model_trace)
        _refuse_pyros(model_trace, guide_trace)
        refuse_observed(model_trace)
    return model_trace, guide_trace


@contextmanager
def slips_refused(
    model: StochasticFunction, guide: StochasticFunction, batch: Batch
) -> Iterator[None]:
    """Turn errors of a run on ``batch`` that have a known cause into ``UserError``s."""
    try:
        yield
    except UserError:
        raise
    except SLIPS as error:
        refuse_slip(error, model, guide, batch)
        raise


def refuse_slip(
    error: Exception, model: StochasticFunction, guide: StochasticFunction, batch: Batch
) -> None:
    """Raise a ``UserError`` for a program's error if it has a known cause."""
    (model_trace, model_runs), (guide_trace, guide_runs) = (
        _run_alone(callee, batch) for callee in (model, guide)
    )
    _refuse_own_rows(model_trace, batch, error)
    _refuse_dtypes(batch, error)
    if model_runs and guide_runs:
        _refuse_shapes(model_trace, guide_trace, error)
    _refuse_by_pyros_words(error)


def _run_alone(callee: StochasticFunction, batch: Batch) -> tuple[Trace, bool]:
    """The trace up to an error, and whether the run completed."""
    tracer = poutine.trace(callee)
    try:
        tracer(**batch)
    except SLIPS:
        return tracer.trace, False
    return tracer.trace, True


def _refuse_own_rows(trace: Trace, batch: Batch, error: Exception) -> None:
    """Refuse a plate that subsamples by itself, given a batch."""
    for name, node in trace.nodes.items():
        fn: Any = node.get("fn")
        if type(fn).__name__ == "_Subsample" and (fn.subsample_size or 0) > 0:
            length = row_count(batch)
            if fn.subsample_size < fn.size and fn.size != length:
                raise UserError(
                    f"plate {name!r} draws {fn.subsample_size} of {fn.size} rows itself, but is "
                    f"given {length}: fit all rows at once (batch_size=None), or give the plate "
                    "subsample=column in place of subsample_size"
                ) from error


def _refuse_dtypes(batch: Batch, error: Exception) -> None:
    said = str(error).splitlines()[0]
    if any(word in said for word in DTYPE_WORDS):
        columns = ", ".join(f"{n} {str(c.dtype).removeprefix('torch.')}" for n, c in batch.items())
        raise UserError(
            f"tensors of different types are combined in the program ({said}); the columns are "
            f"{columns}, parameters {str(torch.get_default_dtype()).removeprefix('torch.')}: give "
            "labels as whole numbers (torch.long; of a Bernoulli, as floats), make a tensor that "
            "a module keeps a buffer (register_buffer) and any other within the program, or choose "
            "another precision"
        ) from error


def _refuse_by_pyros_words(error: Exception) -> None:
    """Refuse a site that comes twice, or that does not have its plate's size."""
    said = " ".join(str(error).partition("Trace Shapes:")[0].split())
    if twice := re.match(r"Multiple sample sites named (.*)", said):
        raise UserError(
            f"site {twice[1]} comes twice in one run: give each its own name, in a loop "
            'f"name_{i}"'
        ) from error
    if mismatch := re.match(r"Shape mismatch inside plate\((.*)\) at site (\S+) dim", said):
        raise UserError(
            f"site {mismatch[2]!r} does not have the size of plate {mismatch[1]} ({said}): give "
            "its distribution the plate's shape, and declare other dimensions by to_event"
        ) from error


def refuse_observed(trace: Trace) -> None:
    """Raise a ``UserError`` where observed values do not fit a distribution's support or shape."""
    for name, site in sample_sites(trace).items():
        if not site["is_observed"]:
            continue
        try:
            density = site["fn"].log_prob(site["value"])
            if is_validation_enabled() and beyond(density.shape, site["fn"].batch_shape):
                raise ValueError("shape")
        except ValueError as error:
            kind, value = distribution_name(site["fn"]), site["value"]
            if "support" not in str(error):
                shapes = tuple(value.shape), tuple(site["fn"].shape())
                raise UserError(
                    f"site {name!r} observes values of shape {shapes[0]}, which its {kind} of "
                    f"shape {shapes[1]} does not give: make them equal, by to_event or a plate"
                ) from error
            support = site["fn"].support
            raise UserError(
                f"site {name!r} observes values from {value.min():g} to {value.max():g}, some of "
                f"which its {kind} does not give ({support}): code the column as it does, or take "
                "another distribution"
            ) from error


def beyond(shape: Sequence[int], other: Sequence[int]) -> bool:
    """Whether broadcasting with ``shape`` enlarges ``other``."""
    return tuple(broadcast_shape(shape, other)) != tuple(other)


def _refuse_sites(model: dict[str, Any], guide: dict[str, Any]) -> None:
    if not model and not guide:
        raise UserError(
            "neither model nor guide has a sample site: observe the data by "
            'pyro.sample("name", distribution, obs=column)'
        )
    observed = {role: _observed(sites) for role, sites in (("model", model), ("guide", guide))}
    if observed["guide"] and not observed["model"]:
        raise UserError(
            f"the guide observes {observed['guide'][0]!r} and the model observes nothing: model "
            "and guide are exchanged"
        )
    for name, site in guide.items():
        if name not in model and not site["infer"].get("is_auxiliary"):
            raise UserError(
                f"site {name!r} of the guide is not in the model: name it after the latent that it "
                'draws, or mark it infer={"is_auxiliary": True}'
            )
    for name, site in model.items():
        if not site["is_observed"] and name not in guide and not site["infer"].get("enumerate"):
            raise UserError(
                f"latent site {name!r} of the model is not in the guide: draw it there, or "
                "enumerate it (pyro.infer.config_enumerate with TraceEnum_ELBO)"
            )


def undrawn_latents(model: Trace, guide: Trace) -> list[str]:
    """Latents of the model that are not in the guide."""
    sites = sample_sites(model)
    return [n for n, s in sites.items() if not s["is_observed"] and n not in guide.nodes]


def _observed(sites: dict[str, Any]) -> list[str]:
    return [n for n, site in sites.items() if site["is_observed"] and not is_factor(site)]


def _refuse_plates(prior: Trace, replayed: Trace) -> None:
    """Refuse plates of one name but different size in model and guide."""
    frames = frames_of(replayed)
    for name, frame in frames_of(prior).items():
        if name in frames and frames[name].size != frame.size:
            raise UserError(
                f"plate {name!r} has {frame.size} rows in the model and {frames[name].size} in the "
                "guide: give it the same size and subsample in both"
            )


def _refuse_pyros(model: Trace, guide: Trace) -> None:
    """Run Pyro's own check, without its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_model_guide_match(model, guide)
    except ValueError as error:
        _refuse_shapes(model, guide, error)
        raise UserError(f"{error}: give the latent the same shape in both") from error


def _refuse_shapes(model: Trace, guide: Trace, error: Exception) -> None:
    """Refuse the first latent whose shapes differ, with the plates around it."""
    sites = sample_sites(guide)
    for name, site in sample_sites(model).items():
        if name not in sites or site["is_observed"]:
            continue
        shapes = [tuple(s["fn"].shape()) for s in (site, sites[name])]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"latent {name!r} has shape {shapes[0]} in the model and {shapes[1]} in the guide "
                f"({_plates(site, model)} against {_plates(sites[name], guide)}): put it into the "
                "same plates in both, with the same size and subsample"
            ) from error


def _plates(site: Any, trace: Trace) -> str:
    frames = [f for f in site["cond_indep_stack"] if f.name in frames_of(trace)]
    return ", ".join(f"plate {f.name!r} of {f.size}" for f in frames) or "no plate"
