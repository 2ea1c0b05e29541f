"""Records of each step, kept on the device and fetched in blocks, so that no step waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inference.engine.gradient.protocol import StepResult

MAX_ROWS = 10_000  # a longer training records means over equal windows of steps


class Recorder:
    """Means over windows of steps: one row (columns + seconds) a window.

    Args:
        names: the columns.
        total_steps: of the whole training; sets the window so that there are at most ``MAX_ROWS``.
    """

    def __init__(self, names: Sequence[str], total_steps: int) -> None:
        self.names = tuple(names)
        self.window = -(-total_steps // MAX_ROWS)
        self.block = self.window * max(1, 50 // self.window)
        self.elapsed = 0.0
        self._started = time.perf_counter()
        self._pending: list[Tensor] = []
        self._pending_seconds: list[float] = []
        self._rows: list[Tensor] = []

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
        tail = [self._windows(self._pending, self._pending_seconds)] if self._pending else []
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
        clock = self.seconds()
        return {"rows": rows, "pending": pending, "pending_seconds": seconds, "elapsed": clock}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore a ``state_dict``."""
        self._rows = [state["rows"]] if len(state["rows"]) else []
        self._pending = list(state["pending"].to(device)) if len(state["pending"]) else []
        self._pending_seconds = state["pending_seconds"].tolist()
        self.elapsed, self._started = state["elapsed"], time.perf_counter()

    def _no_rows(self) -> Tensor:
        return torch.empty(0, len(self.names) + 1, dtype=torch.float64, device="cpu")

    def _fold(self) -> None:
        self._rows.append(self._windows(self._pending, self._pending_seconds))
        self._pending, self._pending_seconds = [], []

    def _windows(self, pending: list[Tensor], seconds: list[float]) -> Tensor:
        values = torch.stack(pending).cpu().double()
        clock = torch.tensor(seconds, dtype=torch.float64, device="cpu")
        chunks = zip(values.split(self.window), clock.split(self.window), strict=True)
        return torch.stack([torch.cat([v.mean(0), t[-1:]]) for v, t in chunks])


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
