"""Whether the iterates of a training have settled, and their mean.

Under a constant learning rate iterates end in wandering about an optimum, where the mean of many is
nearer to it than any one.  They have settled, for a window of them that ends now, if

- the two halves of the window agree: split R-hat at most 1.1;
- the mean is known: at least 25 effective iterates, and a Monte Carlo standard error below 0.1 (of
  unconstrained parameters, in their own units)

in every coordinate watched.  Dhaka et al. 2020; FASO in Welandawe et al. 2022, whose thresholds
these are.  FASO tries five windows and keeps all iterates.  Here there are two windows, and rows of
at most 1,000 coordinates, thinned as training goes on; of all parameters the sums are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WATCHED = 1000  # coordinates, evenly spaced among all
SEGMENT = 200  # rows; a window has 200 to 600, and the first 200 steps are in none
TEST_EVERY = 50  # rows
R_HAT, EFFECTIVE, ERROR = 1.1, 25.0, 0.1
STILL = 1e-6  # spread, as a share of the mean, of what does not move


class Iterates:
    """The later part of a training, at least its last half and without its first steps.

    Attributes:
        stride: steps between rows; it doubles when the record is full.
        rows: (watched,) each, the coordinates of an iterate: ``SEGMENT`` of an earlier part, then
            up to twice as many of a later one, every second of which is the next earlier part.
        earlier, sums: means of all parameters over the earlier part, and sums over the later one.
        names, places: of the parameters, and their coordinates that are watched.
        due: rows to come before the next test.
        mean: of all parameters over the window that has settled; empty until one has.
        verdict: what the last test found, for people.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.places: list[Any] = []
        self.rows: list[Tensor] = []
        self.earlier: list[Tensor] = []
        self.sums: list[Tensor] = []
        self.mean: list[Tensor] = []
        self.stride, self.due = 1, 2 * SEGMENT
        self.verdict = f"not converged: fewer than {2 * SEGMENT} steps"

    def observe(self, parameters: Mapping[str, Tensor], step: int) -> None:
        """Record the parameters (name → unconstrained) after a step."""
        if step % self.stride:
            return
        if list(parameters) != self.names:  # new ones: there is no history of all
            self._begin(parameters)
        values = [parameter.detach() for parameter in parameters.values()]
        pairs = zip(values, self.places, strict=True)
        self.rows.append(torch.cat([value.reshape(-1)[at] for value, at in pairs]))
        torch._foreach_add_(self.sums, values)
        self.due -= 1
        if len(self.rows) == SEGMENT and not self.earlier:
            self._divide(SEGMENT)
        if len(self.rows) == 3 * SEGMENT:
            self.rows = self.rows[SEGMENT:][1::2]
            self._divide(2 * SEGMENT)
            self.stride *= 2

    def settled(self, step: int) -> bool:
        """Whether the iterates up to this step have settled; tested where enough are new."""
        if self.due <= 0 and not self.mean:
            self.due = TEST_EVERY
            self._test(step)
        return bool(self.mean)

    def put_mean(self, parameters: Mapping[str, Tensor]) -> None:
        """Copy the mean over the settled window into the parameters."""
        with torch.no_grad():
            for name, mean in zip(self.names, self.mean, strict=True):
                parameters[name].copy_(mean)

    def state_dict(self) -> dict[str, Any]:
        """All state; restored, it goes on bit for bit."""
        copied = {k: [t.clone() for t in getattr(self, k)] for k in ("earlier", "sums", "mean")}
        rows = torch.stack(self.rows) if self.rows else torch.empty(0)
        fixed = {k: getattr(self, k) for k in ("names", "stride", "due", "verdict")}
        return {**fixed, **copied, "rows": rows}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore a ``state_dict``."""
        for name, value in state.items():
            plain = name == "names" or not isinstance(value, list | Tensor)
            setattr(self, name, value if plain else [part.to(device) for part in value])
        self.places = watched(self.sums)

    def _begin(self, parameters: Mapping[str, Tensor]) -> None:
        self.names, self.stride, self.due = list(parameters), 1, 2 * SEGMENT
        self.rows, self.earlier = [], []
        self.sums = [torch.zeros_like(p.detach()) for p in parameters.values()]
        self.places = watched(self.sums)

    def _divide(self, count: int) -> None:
        """Let the part that is summed, of ``count`` iterates, be the earlier one."""
        self.earlier = [total / count for total in self.sums]
        self.sums = [torch.zeros_like(total) for total in self.sums]

    def _test(self, step: int) -> None:
        rows = torch.stack(self.rows).cpu().double()
        for begin in self._windows():
            found = Diagnosis.of(rows[begin:])
            if found.settled:
                self.mean = self._mean(begin)
                span = (len(rows) - begin) * self.stride
                self.verdict = f"converged after {step:,} steps; parameters are means over the "
                self.verdict += f"last {span:,}: {found.worst(self._owners())}"
                return
        self.verdict = f"not converged after {step:,} steps: {found.worst(self._owners())}"

    def _windows(self) -> list[int]:
        """The rows at which windows begin; the first steps are in none."""
        later = [SEGMENT] if len(self.rows) >= 2 * SEGMENT else []
        return later if self.stride == 1 else [0, *later]

    def _mean(self, begin: int) -> list[Tensor]:
        count = len(self.rows) - SEGMENT
        if begin:
            return [total / count for total in self.sums]
        pairs = zip(self.earlier, self.sums, strict=True)
        return [(SEGMENT * mean + total) / (SEGMENT + count) for mean, total in pairs]

    def _owners(self) -> list[str]:
        """The parameter of each watched coordinate."""
        pairs = zip(self.sums, self.places, strict=True)
        counts = [total.reshape(-1)[at].numel() for total, at in pairs]
        return [name for name, n in zip(self.names, counts, strict=True) for _ in range(n)]


def watched(values: list[Tensor]) -> list[Any]:
    """The coordinates of each tensor, flattened, that are watched: all, or ``WATCHED`` in all."""
    total = sum(value.numel() for value in values)
    if total <= WATCHED:
        return [slice(None)] * len(values)
    chosen, places, begin = torch.linspace(0, total - 1, WATCHED).long(), [], 0
    for value in values:
        at = chosen[(chosen >= begin) & (chosen < begin + value.numel())] - begin
        places.append(at.to(value.device))
        begin += value.numel()
    return places


@dataclass(frozen=True)
class Diagnosis:
    """R-hat, effective number and Monte Carlo error of each coordinate's mean, (watched,) each."""

    r_hat: Tensor
    effective: Tensor
    error: Tensor

    @staticmethod
    def of(rows: Tensor) -> Diagnosis:
        """Of a window (rows, watched)."""
        spread, mean = rows.std(0), rows.mean(0)
        still = spread <= STILL * mean.abs()
        effective = effective_number(rows).masked_fill(still, torch.inf)
        error = (spread / effective.sqrt()).masked_fill(still, 0.0)
        return Diagnosis(split_r_hat(rows).masked_fill(still, 1.0), effective, error)

    @property
    def settled(self) -> bool:
        """Whether all thresholds are met."""
        good = (self.r_hat <= R_HAT) & (self.effective >= EFFECTIVE) & (self.error < ERROR)
        return bool(good.all())

    def worst(self, owners: list[str]) -> str:
        """The largest R-hat and error and the least effective number, and whose they are."""
        r_hat, effective, error = self.r_hat.max(0), self.effective.min(0), self.error.max(0)
        return (
            f"R-hat {float(r_hat.values):.2f} ({owners[int(r_hat.indices)]}), "
            f"{float(effective.values):.0f} effective iterates "
            f"({owners[int(effective.indices)]}), Monte Carlo error {float(error.values):.2g} "
            f"({owners[int(error.indices)]}), at worst"
        )


def split_r_hat(rows: Tensor) -> Tensor:
    """(watched,) √ of (variance within halves + variance of their means) / variance within."""
    half = len(rows) // 2
    halves = rows[-2 * half :].unflatten(0, (2, half))
    within, between = halves.var(1).mean(0), halves.mean(1).var(0)
    return ((half - 1) / half + between / within).sqrt()


def effective_number(rows: Tensor) -> Tensor:
    """(watched,) rows / (1 + 2 Σ_t ρ_t), pairs of autocorrelations summed while positive (Geyer
    1992)."""
    count = len(rows)
    spectrum = torch.fft.rfft(rows - rows.mean(0), 2 * count, dim=0).abs().square()
    covariance = torch.fft.irfft(spectrum, dim=0)[: count // 2 * 2]
    pairs = (covariance / covariance[0]).unflatten(0, (-1, 2)).sum(1)
    inefficiency = 2 * (pairs * (pairs > 0).cumprod(0)).sum(0) - 1
    return count / inefficiency.clamp(min=1 / count)
