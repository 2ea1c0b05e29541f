"""From fit to posterior: ArviZ groups drawn from the guide."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import xarray as xr
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from inference.data.columns import Batch, Columns, Streamed
from inference.engine.program.program import Program
from inference.engine.training.validation import EVALUATION_SEED
from inference.results import evaluate
from inference.util import rng
from inference.util.errors import UserError
from inference.util.sites import sample_sites

NOT_MCMC = (
    "independent draws from the variational guide, not MCMC: R-hat and effective sample size say "
    "nothing about convergence; see khat in group guide"
)
MOST_NUMBERS = 500_000_000  # in one group


def posterior_groups(
    program: Program, data: Columns | Streamed, num_samples: int = 1000
) -> dict[str, xr.Dataset]:
    """What ArviZ needs to check a fit: draws, predictions, pointwise log-likelihood, data, k-hat.

    Draws have dims (chain, draw, plates …, event …) with one chain of ``num_samples``.  The
    log-likelihood is that of each datum given its draw: with local latents it conditions on
    them, so that ``az.loo`` answers for programs whose latents are global.

    Args:
        program: trained; must keep leading dimensions (draws are taken as one batch).
        data: the rows to draw for.
        num_samples: draws.

    Raises:
        UserError: a latent was marginalised, or the draws would not fit memory.
    """
    batch = data.rows(None)
    with rng.forked(EVALUATION_SEED), program.scope(), torch.no_grad():
        model_trace, guide_trace = evaluate.vectorized_traces(program, batch, num_samples)
        _refuse_large(model_trace)
        latent = _dataset(program, model_trace, observed=False)
        likelihood = _log_likelihood(program, model_trace)
        observed = {n: s for n, s in sample_sites(model_trace).items() if s["is_observed"]}
        values = {
            name: xr.Variable(
                *_named(program, name, site, site["value"], site["fn"].event_dim, particles=False)
            )
            for name, site in observed.items()
        }
        predictive = _dataset(
            program, _predictive(program, batch, guide_trace, num_samples), names=list(observed)
        )
    latent, predictive, likelihood = (
        group.assign_coords(chain=[0], draw=range(num_samples))
        for group in (latent, predictive, likelihood)
    )
    latent.attrs["sampling"] = NOT_MCMC
    return {
        "posterior": latent,
        "posterior_predictive": predictive,
        "log_likelihood": likelihood,
        "observed_data": xr.Dataset(values),
        "guide": khat_group(program, batch, num_samples),
    }


def _predictive(program: Program, batch: Batch, guide_trace: Trace, num_samples: int) -> Trace:
    """The model at the guide's draws, its observed sites drawn instead."""
    free = evaluate.under_plate(poutine.uncondition(program.model), num_samples, program.nesting)
    return poutine.trace(poutine.replay(free, trace=guide_trace)).get_trace(**batch)


def khat_group(program: Program, batch: Batch, num_samples: int = 1000) -> xr.Dataset:
    """Pareto k-hat of the importance weights as group ``guide``: dims (plate,) or none."""
    k = evaluate.khat(program, batch, num_samples).numpy()
    dims, values = ((program.plate,), k) if len(k) > 1 else ((), k[0])
    meaning = "above 0.7 the guide is no usable importance proposal for the posterior"
    return xr.Dataset({"khat": xr.Variable(dims, values, attrs={"meaning": meaning})})


def _dataset(
    program: Program, trace: Trace, observed: bool | None = None, names: list[str] | None = None
) -> xr.Dataset:
    chosen = {
        name: site
        for name, site in sample_sites(trace).items()
        if (name in names if names is not None else site["is_observed"] == observed)
    }
    return xr.Dataset({n: _draws(program, n, s, s["value"]) for n, s in chosen.items()})


def _log_likelihood(program: Program, trace: Trace) -> xr.Dataset:
    variables = {}
    for name, site in sample_sites(trace).items():
        if site["is_observed"]:
            log_prob = site["fn"].log_prob(site["value"])
            variables[name] = _draws(program, name, site, log_prob, event_dim=0)
    return xr.Dataset(variables)


def _draws(
    program: Program, name: str, site: Any, value: Tensor, event_dim: int | None = None
) -> xr.Variable:
    """A particle-first value as (chain, draw, plates …, event …)."""
    event_dim = site["fn"].event_dim if event_dim is None else event_dim
    dims, array = _named(program, name, site, value, event_dim, particles=True)
    return xr.Variable(("chain", *dims), array[None])


def _named(
    program: Program, name: str, site: Any, value: Tensor, event_dim: int, particles: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    """Dimension names of a value, its singleton batch dimensions outside plates dropped."""
    plates = {f.dim: f.name for f in site["cond_indep_stack"] if f.name != "particles"}
    if particles:
        plates[-1 - program.nesting] = "draw"
        missing = 1 + program.nesting + event_dim - value.dim()
        value = value.reshape((1,) * missing + value.shape)
    dims, shape = [], []
    batch_dims = value.dim() - event_dim
    for i, length in enumerate(value.shape):
        if i < batch_dims:
            plate = plates.get(i - batch_dims)
            if plate is None:
                continue
            dims.append(plate)
        else:
            dims.append(f"{name}_dim_{i - batch_dims}")
        shape.append(length)
    return tuple(dims), value.reshape(shape).cpu().numpy()


def _refuse_large(trace: Trace) -> None:
    for name, site in sample_sites(trace).items():
        numbers = math.prod(site["fn"].batch_shape) * math.prod(site["fn"].event_shape)
        if numbers > MOST_NUMBERS:
            raise UserError(
                f"the draws of site {name!r} would hold {numbers:,} numbers: ask for fewer samples "
                "or give fewer rows as data"
            )
