"""Whether the rows of a batch are independent data, so that each has a weight of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.data.columns import Batch
from inference.results.draws.checks import same
from inference.results.draws.joint import Draws
from inference.results.draws.sampler import Sampler
from inference.results.draws.sites import Site


def plate_of_rows(draws: Draws, rows: int, preferred: str | None) -> str | None:
    """A plate of as many elements as the batch has rows that every site lies in; None if none."""
    scored = scored_sites(draws)
    common = set.intersection(*(site.plate_names for site in scored)) if scored else set()
    sizes = dict(p for site in scored for p in (site.plates or {}).values())
    fitting = sorted(name for name in common if sizes[name] == rows)
    return preferred if preferred in fitting else next(iter(fitting), None)


def scored_sites(draws: Draws) -> list[Site]:
    """Those that count in log p(x, z) − log q(z)."""
    sites = [s for side in (draws.guide, draws.model, draws.sums) for s in side.values()]
    return [s for s in sites if s.log_prob is not None and s.kind != "deterministic"]


def own_plate(sampler: Sampler, batch: Batch) -> str | None:
    """The plate whose elements are the batch's rows, if none depends on another's draws.

    A plate promises that; here the promise is tested: rows of two draws are mixed, and must keep
    their log-probabilities.
    """
    first, second = sampler.run(batch), sampler.run(batch)
    plate = plate_of_rows(first, rows_of(batch), sampler.program.plate)
    if plate is None or rows_of(batch) == 1:
        return plate
    values = {
        name: _mixed(value, second.values(0)[name], dimension(first.guide[name], plate))
        for name, value in first.values(0).items()
        if name in first.guide
    }
    mixed = sampler.run(batch, values=values)
    for a, b, c in zip(*map(scored_sites, (first, second, mixed)), strict=True):
        if a.log_prob is None or b.log_prob is None or c.log_prob is None:
            continue
        if not same(_mixed(a.log_prob, b.log_prob, _dim(a, plate)), c.log_prob):
            return None
    return plate


def plate_of_any_rows(sampler: Sampler, batch: Batch) -> str | None:
    """The plate whose elements are the batch's rows, if a row alone has the same numbers there."""
    try:
        draws = sampler.run(batch)
        plate = plate_of_rows(draws, rows_of(batch), sampler.program.plate)
        if plate is None:
            return None
        for row in {0, rows_of(batch) - 1}:
            values = {
                name: value.narrow(dimension(draws.guide[name], plate), row, 1)
                for name, value in draws.values(0).items()
                if name in draws.guide
            }
            part = {name: column[row : row + 1] for name, column in batch.items()}
            alone = sampler.run(part, values=values)
            for a, b in zip(scored_sites(draws), scored_sites(alone), strict=True):
                if a.log_prob is None or b.log_prob is None:
                    continue
                if not same(a.log_prob.narrow(_dim(a, plate), row, 1), b.log_prob):
                    return None
    except (RuntimeError, ValueError, IndexError, TypeError):  # the program is for all rows only
        return None
    return plate


def rows_of(batch: Batch) -> int:
    """How many rows it has."""
    return len(next(iter(batch.values())))


def dimension(site: Site, plate: str) -> int:
    """Of the plate in the site's value, from the right."""
    return _dim(site, plate) - site.event_dim


def _dim(site: Site, plate: str) -> int:
    return next(dim for dim, (name, _) in (site.plates or {}).items() if name == plate)


def _mixed(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Every other element along ``dim`` from the second."""
    odd = torch.arange(a.shape[dim], device=a.device) % 2 == 1
    return torch.where(odd.reshape(-1, *(1,) * (-dim - 1)), b, a)
