"""Tests whether the rows of a batch are independent, so that each has its own weight."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.data.columns import Batch, row_count
from inference.estimators.exact import close
from inference.results.draws.joint import Draws
from inference.results.draws.sampler import Sampler
from inference.results.draws.sites import Site


def plate_of_rows(draws: Draws, rows: int, preferred: str | None) -> str | None:
    """A plate that contains every site and is as long as the batch; None if there is none."""
    scored = scored_sites(draws)
    common = set.intersection(*(site.plate_names for site in scored)) if scored else set()
    sizes = dict(p for site in scored for p in (site.plates or {}).values())
    fitting = sorted(name for name in common if sizes[name] == rows)
    return preferred if preferred in fitting else next(iter(fitting), None)


def scored_sites(draws: Draws) -> list[Site]:
    """The sites whose log-probabilities make up log p(x, z) − log q(z)."""
    sites = [s for side in (draws.guide, draws.model, draws.sums) for s in side.values()]
    return [s for s in sites if s.log_prob is not None and s.kind != "deterministic"]


def own_plate(sampler: Sampler, batch: Batch) -> str | None:
    """The plate over the batch's rows, if no row depends on another's draws; else None.

    Plates declare independence; it is tested here: alternate rows of two draws are exchanged, and
    all rows must keep their log-probabilities.
    """
    first, second = sampler.run(batch), sampler.run(batch)
    plate = plate_of_rows(first, row_count(batch), sampler.program.plate)
    if plate is None or row_count(batch) == 1:
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
        if not close(_mixed(a.log_prob, b.log_prob, _dim(a, plate)), c.log_prob):
            return None
    return plate


def plate_of_any_rows(sampler: Sampler, batch: Batch) -> str | None:
    """The plate over the batch's rows, if each row alone has the same log-probabilities."""
    try:
        draws = sampler.run(batch)
        plate = plate_of_rows(draws, row_count(batch), sampler.program.plate)
        if plate is None:
            return None
        for row in {0, row_count(batch) - 1}:
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
                if not close(a.log_prob.narrow(_dim(a, plate), row, 1), b.log_prob):
                    return None
    except (RuntimeError, ValueError, IndexError, TypeError):  # the program runs on all rows only
        return None
    return plate


def dimension(site: Site, plate: str) -> int:
    """The plate's dimension in the site's value, from the right."""
    return _dim(site, plate) - site.event_dim


def _dim(site: Site, plate: str) -> int:
    return next(dim for dim, (name, _) in (site.plates or {}).items() if name == plate)


def _mixed(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Alternate elements along ``dim`` from the second tensor."""
    odd = torch.arange(a.shape[dim], device=a.device) % 2 == 1
    return torch.where(odd.reshape(-1, *(1,) * (-dim - 1)), b, a)
