"""One simulated data set: parameters from the prior, data from the model, a fit, ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from inference.data.columns import Batch, Columns
from inference.engine.program.copies import Sent, copies
from inference.engine.program.program import Program
from inference.results.draws.joint import Draws, concatenated
from inference.results.draws.sampler import DrawObserved, Sampler, isolated
from inference.results.draws.sites import kind_of, log_prob_of
from inference.util import rng
from inference.util.errors import UserError
from inference.util.sites import sample_sites
from inference.workflow.fit import fit

ELEMENTS = 8  # of a site, spread over it, that are looked at
LIKELIHOOD = "log likelihood"


@dataclass(frozen=True)
class Simulation:
    """All simulations of a ``vsbc``; the i-th by ``ranks(i)``, here or in a worker.

    Attributes:
        sent: model and guide.
        data: the columns, in whose place simulated ones are put.
        draws: L, of the guide.
        seed: of all noise.
        options: further arguments of ``fit``.
    """

    sent: Sent
    data: Columns
    draws: int
    seed: int
    options: Mapping[str, Any]

    def ranks(self, i: int) -> dict[str, int]:
        """Quantity → rank, 0 to L, of its true value among the guide's draws; ties at random."""
        simulating, fitting, drawing, ranking = self._seeds(i)
        batch = self.data.rows(None)
        with rng.forked(simulating):
            program = self._program()
            with program.scope(), torch.no_grad():
                columns, truth = simulated(program.model, batch)
        fresh = self._program()
        options = {"seeds": [fitting], "progress": False, **self.options}
        run = fit(fresh.model, fresh.guide, columns, **options)
        (trained,) = run.programs
        with isolated(trained):
            pyro.set_rng_seed(drawing)  # every data set has noise of its own
            draws = concatenated(list(Sampler(trained).draw(columns, self.draws)))
            pairs = compared(trained, columns, truth, draws)
        ties = np.random.default_rng(ranking)
        return {name: rank(*pair, ties) for name, pair in pairs.items()}

    def _program(self) -> Program:
        return copies(*self.sent.unpacked(), 2)[1]

    def _seeds(self, i: int) -> list[int]:
        """Of the four kinds of noise of a simulation; none is used twice."""
        return [int(s) for s in np.random.SeedSequence([self.seed, i]).generate_state(4)]


def simulated(
    model: Callable[..., Any], batch: Batch
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(columns with drawn data in place of observed ones, latent → its value behind them)."""
    source = columns_of(poutine.trace(model).get_trace(**batch), batch)
    sites = sample_sites(poutine.trace(DrawObserved()(model)).get_trace(**batch))
    drawn = {column: sites[site]["value"] for site, column in source.items()}
    columns = {n: drawn[n].to(c).reshape(c.shape) if n in drawn else c for n, c in batch.items()}
    latents = {n: s["value"] for n, s in sites.items() if kind_of(s) == "latent"}
    return columns, {n: value for n, value in latents.items() if n not in source}


def columns_of(trace: Trace, batch: Batch) -> dict[str, str]:
    """Observed site → the column that is its data.

    Raises:
        UserError: a site's data are no column as it stands, or nothing is observed.
    """
    found: dict[str, str] = {}
    for name, site in sample_sites(trace).items():
        kind = kind_of(site)
        if kind == "factor":
            raise UserError(
                f"site {name!r} is a pyro.factor, from which no data can be drawn: vsbc needs "
                "pyro.sample(…, obs=column)"
            )
        if kind == "observed":
            value = site["value"]
            equal = (
                n for n, c in batch.items() if c.shape == value.shape and torch.equal(c, value)
            )
            same = (n for n, c in batch.items() if c is value)
            column = next(same, None) or next(equal, None)
            if column is None:
                raise UserError(
                    f"the data of site {name!r} are no column as it stands, so that drawn ones "
                    "cannot be put in its place: write obs=column, and transform the column before"
                )
            found[name] = column
    if not found:
        raise UserError("the model observes nothing, so that no data can be drawn from it")
    return found


def compared(
    program: Program, batch: Batch, truth: Mapping[str, Tensor], draws: Draws
) -> dict[str, tuple[Tensor, Tensor]]:
    """Quantity → (its true value (), its draws (L,)): elements of latents, and log p(x | z).

    The latter depends on data and all latents, so that it also sees a guide that ignores the data,
    whose latents alone have uniform ranks (Modrák et al. 2023).

    Raises:
        UserError: the guide does not draw a latent of the model.
    """
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, value in truth.items():
        site = draws.model[name]
        if site.value is None or name not in draws.guide:
            raise UserError(
                f"the guide does not draw latent site {name!r}, which has no rank then: draw it in "
                "the guide"
            )
        flat, drawn = value.reshape(-1), site.value.reshape(len(site.value), -1)
        chosen = np.unique(np.linspace(0, len(flat) - 1, min(len(flat), ELEMENTS)).round())
        for k in chosen.astype(int):
            label = name if len(flat) == 1 else f"{name}[{k}]"
            pairs[label] = flat[k], drawn[:, k].expand(draws.count)
    at_truth = poutine.trace(poutine.condition(program.model, data=dict(truth))).get_trace(**batch)
    seen = {n: s for n, s in sample_sites(at_truth).items() if n not in truth}
    data = [s for s in seen.values() if kind_of(s) == "observed"]
    own = torch.stack([log_prob_of(s).sum() for s in data]).sum()
    parts = [s.log_prob for s in draws.model.values() if s.kind == "observed"]
    sums = [p.reshape(len(p), -1).sum(1).expand(draws.count) for p in parts if p is not None]
    pairs[LIKELIHOOD] = own, torch.stack(sums).sum(0)
    return pairs


def rank(value: Tensor, draws: Tensor, ties: np.random.Generator) -> int:
    """How many draws are below the value, of those equal to it (up to rounding) a random number."""
    equal = torch.isclose(draws.double(), value.double(), rtol=1e-5, atol=1e-7)
    below = int(((draws < value) & ~equal).sum())
    return below + int(ties.integers(int(equal.sum()) + 1))
