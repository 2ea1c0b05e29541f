"""Whether a guide is one of its model: the same latents, of the same shapes, in the same plates."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from pyro import poutine
from pyro.poutine import Trace
from pyro.util import check_model_guide_match

from inference.data.columns import Batch
from inference.engine.program.checks.plates import frames_of
from inference.util import rng
from inference.util.errors import UserError
from inference.util.sites import sample_sites

Callee = Callable[..., Any]
Traces = tuple[Trace, Trace]
SLIPS = (RuntimeError, ValueError, IndexError)


def matching(
    traces: Callable[[Batch], Traces], model: Callee, guide: Callee, batch: Batch
) -> Traces:
    """``traces(batch)`` of model and guide, if they match.

    Raises:
        UserError: they do not; or they fail together where each runs by itself, as shapes differ.
    """
    try:
        model_trace, guide_trace = traces(batch)
    except SLIPS as error:
        try:
            alone = poutine.trace(guide).get_trace(**batch)
            prior = poutine.trace(model).get_trace(**batch)
        except SLIPS:
            raise error from None
        _refuse_shapes(prior, alone, error)
        raise
    _refuse_sites(sample_sites(model_trace), sample_sites(guide_trace))
    with rng.forked():
        _refuse_plates(poutine.trace(model).get_trace(**batch), model_trace)
    _refuse_pyros(model_trace, guide_trace)
    return model_trace, guide_trace


def _refuse_sites(model: dict[str, Any], guide: dict[str, Any]) -> None:
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


def _observed(sites: dict[str, Any]) -> list[str]:
    return [name for name, site in sites.items() if site["is_observed"]]


def _refuse_plates(prior: Trace, replayed: Trace) -> None:
    """The guide's plates take the place of the model's; they must be as long."""
    frames = frames_of(replayed)
    for name, frame in frames_of(prior).items():
        if name in frames and frames[name].size != frame.size:
            raise UserError(
                f"plate {name!r} has {frame.size} rows in the model and {frames[name].size} in the "
                "guide: give it the same size and subsample in both"
            )


def _refuse_pyros(model: Trace, guide: Trace) -> None:
    """What Pyro's own check refuses; its warnings are for it to give."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_model_guide_match(model, guide)
    except ValueError as error:
        _refuse_shapes(model, guide, error)
        raise UserError(f"{error}: give the latent the same shape in both") from error


def _refuse_shapes(model: Trace, guide: Trace, error: Exception) -> None:
    """Name the first latent whose shapes differ, and the plates that make the difference."""
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
