"""ArviZ's groups, drawn from a fitted guide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from torch import Tensor

from inference.data.columns import Batch, Columns, Streamed
from inference.engine.program.program import Program
from inference.results import evaluate
from inference.results.draws.assignments import assignments
from inference.results.draws.joint import Draws, concatenated
from inference.results.draws.names import Names
from inference.results.draws.rows import own_plate
from inference.results.draws.sampler import Sampler, isolated
from inference.results.draws.sites import Site, Sites, stacked
from inference.util.errors import UserError

NOT_MCMC = (
    "independent draws from the variational guide, not MCMC: R-hat and effective sample size say "
    "nothing about convergence; see khat in group guide"
)
MOST_NUMBERS = 500_000_000  # numbers in one group


def posterior_groups(
    program: Program,
    data: Columns | Streamed,
    num_samples: int = 1000,
    assign: bool = False,
    progress: bool = True,
) -> dict[str, xr.Dataset]:
    """ArviZ's groups of a fit: draws, predictions, pointwise log-likelihood, data, k-hat.

    Draws have dims (chain, draw, plates …, event …) with one chain of ``num_samples``; they equal
    one run a draw, as in Pyro's ``Predictive``, and are vectorised where that is checked to give
    the same.  Modules are in evaluation mode; their state is restored.

    - ``posterior``: latents of the guide, and ``pyro.deterministic`` sites.
    - ``posterior_predictive``: observed sites drawn from the model given each draw; so are
      enumerated latents and sites whose column is missing from the data.
    - ``log_likelihood``: of each datum given its draw, so that ``az.loo`` answers for programs
      whose latents are global.  It has no factor of ``poutine.scale`` (attribute ``scale``), and
      data that the model masks are left out (attribute ``masked``).  Enumerated latents are summed
      out.  A ``pyro.factor`` is not a datum, unless nothing else is observed.
    - ``observed_data``; ``guide``: k-hat, for each row where rows are independent, else one.

    Sites x_0, x_1, … of a sequential plate are one variable.

    Args:
        program: trained.
        data: the rows to draw for; plates that subsample by themselves cover all of them.
        num_samples: draws.
        assign: also draw the enumerated latents, given data and each draw (``infer_discrete``).
        progress: show a bar where draws are made one by one.

    Raises:
        UserError: the draws would not fit memory, or differ in shape.
    """
    batch = data.rows(None)
    with isolated(program):
        sampler = Sampler(program, predict=True, progress=progress)
        _refuse_large(sampler.single(batch)[1], num_samples)
        draws = concatenated(list(sampler.draw(batch, num_samples)))
        assigned = assignments(sampler, batch, draws, progress) if assign else {}
        plate = own_plate(sampler, batch)
    return _groups(draws, assigned, plate, sampler.reason)


def _groups(
    draws: Draws, assigned: Sites, plate: str | None, reason: str | None
) -> dict[str, xr.Dataset]:
    latents = {n: s for n, s in draws.model.items() if s.kind in ("latent", "deterministic")}
    latents = {n: s for n, s in latents.items() if n in draws.guide or s.kind != "latent"}
    seen = {n: s for n, s in draws.model.items() if s.kind == "observed"}
    likelihood = _likelihood(draws)
    predicted = {n: s for n, s in draws.predicted.items() if n not in draws.summed}
    parts = [stacked(p) for p in (latents | assigned, predicted, likelihood, seen)]
    names = Names.of(
        {n for part in parts for n in part}, {p for part in parts for p in _plates(part.values())}
    )
    chosen, free, scores, observed = parts
    posterior = _dataset(names, chosen)
    posterior.attrs["sampling"] = NOT_MCMC
    if reason is not None:
        posterior.attrs["one_by_one"] = reason
    if draws.summed and not assigned:
        posterior.attrs["summed_over"] = ", ".join(sorted(draws.summed))
    groups = {
        "posterior": posterior,
        "posterior_predictive": _dataset(names, free),
        "log_likelihood": as_dataset(
            {names.sites[n]: _scored(names, n, s) for n, s in scores.items()}
        ),
    }
    groups = {
        name: group.assign_coords(chain=[0], draw=range(draws.count))
        for name, group in groups.items()
        if group.data_vars or name == "posterior"
    }
    if observed:
        groups["observed_data"] = _dataset(names, observed, draws=False)
    if not any(s.kind == "latent" and n not in draws.guide for n, s in draws.model.items()):
        weights = evaluate.weights_of(draws, plate)
        k, rows = evaluate.khat_of(weights), plate and names.plates[plate]
        groups["guide"] = _khat_group(k, rows, draws.count)
    return groups


def _plates(sites: Iterable[Site]) -> set[str]:
    return {name for site in sites for name in site.plate_names}


def _likelihood(draws: Draws) -> Sites:
    """The observed sites, with their log-probabilities."""
    scored = {n: s for n, s in draws.model.items() if s.log_prob is not None}
    observed = {n: s for n, s in scored.items() if s.kind == "observed"}
    observed |= {n: s for n, s in draws.sums.items() if s.kind == "observed"}
    return observed or {n: s for n, s in scored.items() if s.kind == "factor"}


def khat_group(program: Program, batch: Batch, num_samples: int = 1000) -> xr.Dataset:
    """Pareto k-hat of the importance weights as group ``guide``: dims (plate,) or none."""
    with isolated(program):
        plate = own_plate(Sampler(program), batch)
    return _khat_group(evaluate.khat(program, batch, num_samples), plate, num_samples)


def _khat_group(k: Tensor, plate: str | None, num_samples: int) -> xr.Dataset:
    dims, values = ((plate,), k.numpy()) if plate else ((), k.numpy()[0])
    meaning = (
        "above the threshold the guide is no usable importance proposal for the posterior given "
        "these rows; factors of poutine.scale are left out of the weights"
    )
    attrs = {"meaning": meaning, "threshold": evaluate.khat_threshold(num_samples)}
    return xr.Dataset({"khat": xr.Variable(dims, values, attrs=attrs)})


def as_dataset(arrays: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """A data set of arrays by name; dimensions of one name but different rows get new names."""
    known: dict[str, tuple[int, bytes]] = {}
    renamed = {}
    for name, array in arrays.items():
        rows = {
            str(d): (n, array.coords[d].to_numpy().tobytes() if d in array.coords else b"")
            for d, n in array.sizes.items()
        }
        clash = {d: f"{name}_{d}" for d in rows if known.get(d, rows[d]) != rows[d]}
        renamed[name] = array.rename(clash)
        known |= {clash.get(d, d): length for d, length in rows.items()}
    return xr.Dataset(renamed)


def _dataset(names: Names, sites: Sites, draws: bool = True) -> xr.Dataset:
    return as_dataset({names.sites[n]: _drawn(names, n, s, draws) for n, s in sites.items()})


def _drawn(names: Names, name: str, site: Site, draws: bool) -> xr.DataArray:
    """A value as (chain, draw, plates …, event …), or the first draw's without these two dims."""
    value = site.value
    assert value is not None
    dims, shape = _dims(names, name, site, value, site.event_dim)
    array = value.reshape(len(value), *shape).numpy()
    if not draws:
        return xr.DataArray(array[0], dims=dims)
    return xr.DataArray(array[None], dims=("chain", "draw", *dims))


def _dims(
    names: Names, name: str, site: Site, value: Tensor, event_dim: int
) -> tuple[tuple[str, ...], list[int]]:
    """Name → length of a value's dimensions, without draws and those of length 1 in no plate."""
    dims: list[str] = []
    shape: list[int] = []
    rank, count = value.dim() - event_dim, 0
    for i, length in enumerate(value.shape[1:], 1):
        plate, size = (site.plates or {}).get(i - rank, (None, 1)) if i < rank else (None, 1)
        if plate is not None and length == size:
            dims.append(names.plates[plate])
        elif i < rank and length == 1:
            continue
        else:
            dims.append(f"{names.sites[name]}_dim_{count}")
            count += 1
        shape.append(length)
    return tuple(dims), shape


def _scored(names: Names, name: str, site: Site) -> xr.DataArray:
    """The log-likelihood of a site's data, without those that are masked in every draw."""
    assert site.log_prob is not None
    dims, shape = _dims(names, name, site, site.log_prob, 0)
    scores = site.log_prob.reshape(1, len(site.log_prob), *shape).numpy()
    array = xr.DataArray(scores, dims=("chain", "draw", *dims), attrs={"units": "nats"})
    if site.mask is not None:
        kept = site.mask.any(0).expand(site.log_prob.shape[1:]).reshape(shape).numpy()
        if not kept.all():
            array = _unmasked(names.sites[name], array, kept)
            array.attrs["masked"] = f"{(~kept).sum()} of {kept.size} are masked and left out"
    if site.scale != 1:
        array.attrs["scale"] = site.scale
        array.attrs["scale_meaning"] = "the model weighs these by poutine.scale; they are not"
    return array


def _unmasked(name: str, array: xr.DataArray, kept: np.ndarray) -> xr.DataArray:
    """The kept entries, with the numbers of their rows as coordinates.

    Along one dimension where whole slices are dropped; else flattened, dimension ``NAME_entry``.
    """
    dims = [str(d) for d in array.dims[2:]]
    for i, dim in enumerate(dims):
        rows = np.flatnonzero(kept.any(tuple(d for d in range(kept.ndim) if d != i)))
        if np.take(kept, rows, i).all():
            return array.isel({dim: rows}).assign_coords({dim: rows})
    where = np.argwhere(kept)
    entry = f"{name}_entry"
    columns = {f"{entry}_{dim}": (entry, where[:, i]) for i, dim in enumerate(dims)}
    listed = array.to_numpy()[:, :, kept]
    return xr.DataArray(listed, columns, ("chain", "draw", entry), attrs=array.attrs)


def _refuse_large(single: Draws, count: int) -> None:
    for sites in (single.model, single.predicted):
        for name, site in sites.items():
            numbers = count * max(t.numel() for t in (site.value, site.log_prob) if t is not None)
            if site.kind != "factor" and numbers > MOST_NUMBERS:
                raise UserError(
                    f"the draws of site {name!r} would hold {numbers:,} numbers: ask for fewer "
                    "samples or give fewer rows as data"
                )
