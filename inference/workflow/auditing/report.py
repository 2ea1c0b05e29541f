"""The results of an audit: verdicts, table, plot and tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure
from rich.table import Table

from inference.results import plots
from inference.util import tables
from inference.workflow.auditing.bias import FAMILY_WISE_ERROR, POWER, TOLERANCE

EXACT = "the exact gradient"


@dataclass(frozen=True)
class Verdict:
    """One estimator at one moment of training; gradients are those of nats per datum.

    Attributes:
        name, step: of the estimator, and the number of training steps before.
        bound: "ELBO"; "L_K" for the K-sample bounds; "ELBO, summed over z" where ``TraceEnum_ELBO``
            sums out a latent z that the guide does not draw.
        against: what its mean is compared with, "the exact gradient" or the name of an unbiased
            estimator of the same bound; "" if there is neither.
        worst_z: evidence for a bias, √(2 log wealth), see ``inference.workflow.auditing.bias``; on
            the scale of a z-score, 0 without evidence; nan if there is nothing to compare with.
        critical: threshold that ``worst_z`` exceeds in any of the audit's rows with probability at
            most ``FAMILY_WISE_ERROR`` if there is no bias.
        bias: ‖mean − reference‖ / ‖reference‖, less the expectation from noise alone.
        resolution: the smallest bias, on this scale, that is detected with probability ``POWER``.
        variance: of one gradient, summed over parameters.
        second_moment: E ‖g‖² of one gradient g, variance and squared mean together.
        signal_to_noise: ‖reference‖ / √variance.
        evaluations: runs of the model for one gradient, particles counted one by one.
        milliseconds: of one gradient, median.
        by_parameter: name → variance, summed over its entries.
    """

    name: str
    step: int
    bound: str
    against: str
    worst_z: float
    critical: float
    bias: float
    resolution: float
    variance: float
    second_moment: float
    signal_to_noise: float
    evaluations: int
    milliseconds: float
    by_parameter: Mapping[str, float]

    @property
    def work(self) -> float:
        """Variance × milliseconds, proportional to the time to a given precision."""
        return self.variance * self.milliseconds

    @property
    def effort(self) -> float:
        """E ‖g‖² × milliseconds, proportional to the time to train to a given level.

        A step of the best length gains ‖∇‖⁴ / E ‖g‖², so that time goes with E ‖g‖² and not with
        the variance alone, once the noise is below the signal (Geffner & Domke 2020).
        """
        return self.second_moment * self.milliseconds

    @property
    def biased(self) -> bool:
        """Whether a bias was detected."""
        return self.worst_z > self.critical

    @property
    def says(self) -> str:
        """ "biased", "unbiased" (no bias of ``TOLERANCE`` of the norm or more), "cannot tell"."""
        if self.biased:
            return "biased"
        return "unbiased" if self.resolution <= TOLERANCE else "cannot tell"


@dataclass(frozen=True, repr=False)
class Audit(tables.ShownAsTables):
    """Verdicts, their ``table()``, ``plot(path)`` and ``tree``; printed, a table for each moment.

    Attributes:
        rows: a verdict for each estimator and moment, in the order given; tables sort by effort.
        samples: gradients of each.
        refused: estimators that were left out, and why.
        inexact: why there is no exact gradient; "" if there is one.
    """

    rows: Sequence[Verdict]
    samples: int
    refused: Mapping[str, str]
    inexact: str = ""

    @property
    def reference(self) -> str:
        """The references of the biases: see each row's ``against``."""
        names = {r.against for r in self.rows} - {""}
        if not names:
            return "nothing"
        return EXACT if EXACT in names else "the quietest unbiased estimator"

    def table(self, step: int | None = None) -> Table:
        """A rich table of the estimators after ``step`` steps (the last), least effort first."""
        step = max(r.step for r in self.rows) if step is None else step
        shown = sorted((r for r in self.rows if r.step == step), key=lambda r: (r.bound, r.effort))
        cells, bounds = [_cells(r) for r in shown], {r.bound for r in shown}
        what = "gradients"
        if len(bounds) == 1:
            what = f"gradients of {bounds.pop()}"
            cells = [{k: v for k, v in row.items() if k != "bound"} for row in cells]
        table = tables.new_table(
            f"{what} after {step} steps, {self.samples} of each; against {self.reference}",
            list(cells[0]),
            self._caption(),
        )
        for row in cells:
            table.add_row(*row.values())
        return table

    def tables(self) -> list[Table]:
        """One for each moment of training."""
        return [self.table(step) for step in sorted({r.step for r in self.rows})]

    def _caption(self) -> str:
        lines = [
            "effort = E‖g‖² × ms, which training follows; work = variance × ms",
            "bias: % of the gradient's norm, ! where seen (family-wise error "
            f"{FAMILY_WISE_ERROR:g}), else what would be seen with probability {POWER:g}; ? is all",
        ]
        lines += [f"no exact gradient: {self.inexact}"] * bool(self.inexact)
        return "\n".join(lines + [f"{name}: left out. {why}" for name, why in self.refused.items()])

    def plot(self, path: str | Path) -> None:
        """Plot variance and effort of each estimator; against steps if there are several."""
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        steps = sorted({r.step for r in self.rows})
        if len(steps) == 1:
            _bars(left, self.rows, "variance")
            _bars(right, self.rows, "effort")
        else:
            _curves(left, self.rows, "variance")
            _curves(right, self.rows, "effort")
            figure.legend(*right.get_legend_handles_labels(), loc="outside right upper")
        left.set_title("variance of one gradient")
        right.set_title("effort, E‖g‖² × milliseconds")
        plots.save(figure, path)

    @property
    def tree(self) -> xr.DataTree:
        """Groups ``audit`` (estimator, step) and ``by_parameter`` (estimator, step, parameter)."""
        names = list(dict.fromkeys(r.name for r in self.rows))
        steps = sorted({r.step for r in self.rows})
        at = {(r.name, r.step): r for r in self.rows}
        columns = [
            *("worst_z", "critical", "bias", "resolution", "variance", "second_moment"),
            *("signal_to_noise", "evaluations", "milliseconds", "work", "effort"),
        ]
        coords = {"estimator": names, "step": steps}
        grid = [[at[n, s] for s in steps] for n in names]
        audit = xr.Dataset(
            {
                c: (("estimator", "step"), [[float(getattr(r, c)) for r in line] for line in grid])
                for c in columns
            },
            coords=coords,
        )
        parameters = list(self.rows[0].by_parameter)
        values = [[[r.by_parameter[p] for p in parameters] for r in line] for line in grid]
        dims = ("estimator", "step", "parameter")
        group = xr.Dataset({"variance": (dims, values)}, coords={**coords, "parameter": parameters})
        return xr.DataTree.from_dict({"audit": audit, "by_parameter": group})


def _cells(r: Verdict) -> dict[str, str]:
    """A row of the table: heading → cell."""
    return {
        "estimator": r.name,
        "bound": r.bound,
        "bias %": _bias(r),
        "|z|": f"{r.worst_z:.1f}" if r.against else "–",
        "variance": f"{r.variance:.3g}",
        "SNR": f"{r.signal_to_noise:.2g}",
        "evals": str(r.evaluations),
        "ms": f"{r.milliseconds:.2f}",
        "work": f"{r.work:.3g}",
        "effort": f"{r.effort:.3g}",
    }


def _bias(verdict: Verdict) -> str:
    """The bias, marked if detected, else the detectable one; ? if that exceeds the norm."""
    if verdict.biased:
        return f"{100 * verdict.bias:.0f}!"
    if not verdict.against:
        return "–"
    return f"<{100 * verdict.resolution:.0f}" if verdict.resolution < 1 else "?"


def _bars(axis: Any, rows: Sequence[Verdict], quantity: str) -> None:
    ordered = sorted(rows, key=lambda r: -getattr(r, quantity))
    values = [getattr(r, quantity) for r in ordered]
    bounds = len({r.bound for r in rows}) > 1
    names = [r.name + f" [{r.bound}]" * bounds + " (biased)" * r.biased for r in ordered]
    axis.barh(names, values, color=["0.7" if r.biased else "C0" for r in ordered])
    if least := min((value for value in values if value > 0), default=0):
        axis.set_xscale("log")
        axis.set_xlim(left=least / 3)


def _curves(axis: Any, rows: Sequence[Verdict], quantity: str) -> None:
    for name in dict.fromkeys(r.name for r in rows):
        mine = sorted((r for r in rows if r.name == name), key=lambda r: r.step)
        axis.plot([r.step for r in mine], [getattr(r, quantity) for r in mine], "o-", label=name)
    axis.set(yscale="log", xlabel="step")
