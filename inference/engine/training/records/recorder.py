"""Records of each step, kept on the device and fetched in blocks, so that no step waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inference.engine.gradient.protocol import StepResult
from inference.util.errors import UserError

MAX_ROWS = 8192  # 2^13; when there are so many, two become one
BLOCK = 64  # steps between fetches; a power of two, as windows are


class Recorder:
    """Means over windows of steps: one row (columns + seconds) a window.

    Windows are single steps at first and double whenever there are ``MAX_ROWS`` of them, so that
    the record of so many steps is the same, however many follow.

    Args:
        names: the columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.window = 1
        self.elapsed = 0.0
        self._started = time.perf_counter()
        self._pending: list[Tensor] = []
        self._pending_seconds: list[float] = []
        self._rows: list[Tensor] = []

    @property
    def block(self) -> int:
        """Steps between fetches: whole windows."""
        return max(BLOCK, self.window)

    def append(self, values: Tensor) -> None:
        """Record one step's values (len(names),), on the device."""
        self._pending.append(values)
        self._pending_seconds.append(self.seconds())
        if len(self._pending) >= self.block:
            self._fold()

    def seconds(self) -> float:
        """Seconds of training so far, without the time between interrupted runs."""
        return self.elapsed + time.perf_counter() - self._started

    def last_is_finite(self, name: str) -> bool:
        """Whether the last value of a column is finite; waits for the device."""
        return bool(self.fetch()[-1, self.names.index(name)].isfinite())

    def fetch(self) -> Tensor:
        """(windows, len(names) + 1) float64 on the host; seconds come last."""
        tail = [self._windows()] if self._pending else []
        blocks = self._rows + tail
        return torch.cat(blocks) if blocks else self._no_rows()

    def steps(self, count: int) -> Tensor:
        """The last step (1, 2, …) of each window in ``count`` steps."""
        ends = torch.arange(self.window, count + self.window, self.window, device="cpu")
        return ends.clamp(max=count)[: -(-count // self.window)]

    def state_dict(self) -> dict[str, Any]:
        """All state; restored, records continue bit for bit (seconds aside)."""
        pending = torch.stack(self._pending).cpu() if self._pending else self._no_rows()
        rows = torch.cat(self._rows) if self._rows else self._no_rows()
        seconds = torch.tensor(self._pending_seconds, dtype=torch.float64, device="cpu")
        return {
            "rows": rows,
            "pending": pending,
            "pending_seconds": seconds,
            "elapsed": self.seconds(),
            "window": self.window,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore a ``state_dict``.

        Raises:
            UserError: it has other columns.
        """
        if state["rows"].shape[-1] != len(self.names) + 1:
            raise UserError(
                f"the run in this directory recorded {state['rows'].shape[-1] - 1} figures a step, "
                f"and this fit records {len(self.names)}: an earlier version began it; give "
                "another directory, or overwrite"
            )
        self.window = state["window"]
        self._rows = [state["rows"]] if len(state["rows"]) else []
        self._pending = list(state["pending"].to(device)) if len(state["pending"]) else []
        self._pending_seconds = state["pending_seconds"].tolist()
        self.elapsed, self._started = state["elapsed"], time.perf_counter()

    def _no_rows(self) -> Tensor:
        return torch.empty(0, len(self.names) + 1, dtype=torch.float64, device="cpu")

    def _fold(self) -> None:
        self._rows.append(self._windows())
        self._pending, self._pending_seconds = [], []
        if sum(map(len, self._rows)) >= MAX_ROWS:
            self._rows, self.window = [halved(torch.cat(self._rows))], 2 * self.window

    def _windows(self) -> Tensor:
        """The pending steps as windows; the last may be of fewer steps."""
        values = torch.stack(self._pending).cpu().double()
        clock = torch.tensor(self._pending_seconds, dtype=torch.float64, device="cpu")
        rows = torch.cat([values, clock[:, None]], 1)
        whole, rest = rows.split([n := len(rows) // self.window * self.window, len(rows) - n])
        for _ in range(self.window.bit_length() - 1):
            whole = halved(whole)
        return torch.cat([whole, mean(rest)[None]]) if len(rest) else whole


def halved(rows: Tensor) -> Tensor:
    """Means of pairs of rows (2R, columns + seconds); of the seconds, the later."""
    pairs = rows.unflatten(0, (-1, 2))
    return torch.cat([pairs[..., :-1].mean(1), pairs[:, 1, -1:]], 1)


def mean(rows: Tensor) -> Tensor:
    """The mean of rows; of the seconds, the last."""
    return torch.cat([rows[:, :-1].mean(0), rows[-1, -1:]])


def regrouped(rows: Tensor, ends: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """(rows, their last steps) in wider windows.

    Args:
        rows: (R, columns + seconds) of narrower windows.
        ends: (R,) the last step of each.
        window: steps.
    """
    counts = ends.diff(prepend=ends.new_zeros(1)).double()
    groups = [(ends - 1) // window == g for g in range(-(-int(ends[-1]) // window))]
    means = [(rows[g] * counts[g, None]).sum(0) / counts[g].sum() for g in groups]
    last = torch.stack([ends[g][-1] for g in groups])
    clocks = torch.stack([rows[g][-1, -1] for g in groups])
    return torch.cat([torch.stack(means)[:, :-1], clocks[:, None]], 1), last


def step_row(names: Sequence[str], result: StepResult, beta: float) -> Tensor:
    """(…, names) the record of a step whose loss and norm are (…,).

    Args:
        names: of the row: the ELBO, its terms, the gradient's norm and, if the KL is annealed, β.
        result: of the step; its objective weighted the KL by β, the record holds the unweighted
            ELBO, or nan where its terms are not known.
        beta: β.
    """
    loss, norm, terms = result
    elbo = -loss
    if beta != 1:
        is_kl = [name.startswith("kl") for name in names[1 : 1 + terms.shape[-1]]]
        at = torch.tensor(is_kl, dtype=torch.bool, device=terms.device)
        terms = torch.where(at, terms / beta, terms)
        elbo = elbo - (1 - beta) * terms.where(at, 0.0).sum(-1) if is_kl else elbo * torch.nan
    annealed = [loss.new_full((*loss.shape, 1), beta)] if names[-1] == "beta" else []
    return torch.cat([elbo[..., None], terms, norm[..., None].to(loss), *annealed], -1)
