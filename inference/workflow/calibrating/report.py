"""What ``vsbc`` found: ranks, their test, coverage, in words, as a table and as a picture."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from inference.results import plots
from inference.util import tables
from inference.workflow.calibrating.uniformity import Band

INTERVALS = (0.5, 0.9)
CALIBRATED = "no misfit seen"
SEEN = 3.0  # standard errors of a moment that names a misfit
COLUMNS = 4  # of the picture


@dataclass(frozen=True)
class Quantity:
    """What was found of one quantity.

    Attributes:
        name: an element of a latent, or "log likelihood".
        p_value: of the test that its ranks are uniform.
        coverage: of the guide's central 50 % and 90 % intervals, shares of the simulations.
        errors: their standard errors, if they are right.
        says: "no misfit seen", or which: "too narrow", "too wide", "draws too low", …
    """

    name: str
    p_value: float
    coverage: tuple[float, ...]
    errors: tuple[float, ...]
    says: str


@dataclass(frozen=True, repr=False)
class Calibration(tables.ShownAsTables):
    """Of a program and its guide, see ``vsbc``; printed, a table.

    Attributes:
        ranks: quantity → (simulations,) of the true value among the draws, 0 … draws.
        draws: L.
        level: probability that a calibrated program is found not to be, over all quantities.
    """

    ranks: Mapping[str, np.ndarray]
    draws: int
    level: float

    @property
    def calibrated(self) -> bool:
        """Whether no quantity shows a misfit."""
        return all(row.says == CALIBRATED for row in self.rows)

    @functools.cached_property
    def rows(self) -> Sequence[Quantity]:
        """Of each quantity, in the order of the program."""
        return [self._row(name, ranks) for name, ranks in self.ranks.items()]

    @functools.cached_property
    def band(self) -> Band:
        """That of uniform ranks."""
        return Band.of(self.simulations, self.draws)

    @property
    def simulations(self) -> int:
        """S, how many data sets were fitted."""
        return len(next(iter(self.ranks.values())))

    @property
    def each(self) -> float:
        """The level of each quantity's test (Bonferroni)."""
        return self.level / len(self.ranks)

    def table(self) -> Table:
        """A rich table; worst first."""
        headings = ("quantity", "p-value", *(f"in {q:.0%}" for q in INTERVALS), "says")
        caption = (
            f"p-value: of uniform ranks; a misfit is one below {self.each:.2g} (family-wise error "
            f"{self.level:g})\nin 50%, in 90%: share of true values in the guide's central interval"
        )
        title = f"{self.simulations} simulated data sets, {self.draws} draws of each guide"
        table = tables.new_table(title, headings, caption)
        for row in sorted(self.rows, key=lambda row: row.p_value):
            shares = zip(row.coverage, row.errors, strict=True)
            cells = (f"{share:.2f} ± {error:.2f}" for share, error in shares)
            table.add_row(row.name, f"{row.p_value:.2g}", *cells, row.says)
        return table

    def tables(self) -> list[Table]:
        """The one that is shown."""
        return [self.table()]

    def plot(self, path: str | Path) -> None:
        """Plot each quantity's distribution function of ranks, less the uniform one, and its band.

        The band holds all of the curve with probability 1 − level / quantities.  A curve that
        rises and falls (∩, then ∪) is of a guide too narrow; all above 0: the true values are low
        among the draws, which are too high.
        """
        rows = -(-len(self.ranks) // COLUMNS)
        size = (2.6 * min(COLUMNS, len(self.ranks)) + 0.6, 2.2 * rows + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, min(COLUMNS, len(self.ranks)), squeeze=False, sharey=True)
        uniform = self.band.points / (self.draws + 1)
        low, high = self.band.limits(self.each)
        for axis, row in zip(axes.flat, self.rows, strict=False):
            share = self.band.counts(self.ranks[row.name]) / self.simulations
            axis.fill_between(uniform, low - uniform, high - uniform, color="0.85", lw=0)
            colour = "C0" if row.says == CALIBRATED else "C3"
            axis.plot(uniform, share - uniform, color=colour, lw=1.2)
            axis.set_title(f"{row.name}: {row.says}", fontsize=8)
        for axis in axes.flat[len(self.ranks) :]:
            axis.set_axis_off()
        for axis in axes[-1]:
            axis.set_xlabel("rank / draws")
        for axis in axes[:, 0]:
            axis.set_ylabel("ECDF − uniform")
        plots.save(figure, path)

    def _row(self, name: str, ranks: np.ndarray) -> Quantity:
        p_value = self.band.p_value(ranks)
        places = (ranks + 0.5) / (self.draws + 1)
        coverage = tuple(float((abs(places - 0.5) <= q / 2).mean()) for q in INTERVALS)
        errors = tuple(math.sqrt(q * (1 - q) / len(ranks)) for q in INTERVALS)
        says = CALIBRATED if p_value >= self.each else misfit(places)
        return Quantity(name, p_value, coverage, errors, says)


def misfit(places: np.ndarray) -> str:
    """In words, from the moments of places (S,) in (0, 1): where true values are among draws."""
    count, found = len(places), []
    shift = (places.mean() - 0.5) / math.sqrt(1 / 12 / count)
    spread = ((places - 0.5) ** 2).mean() - 1 / 12
    spread /= math.sqrt((1 / 80 - 1 / 144) / count)
    if abs(shift) > SEEN:
        found.append("draws too low" if shift > 0 else "draws too high")
    if abs(spread) > SEEN:
        found.append("too narrow" if spread > 0 else "too wide")
    return ", ".join(found) or "not uniform"
