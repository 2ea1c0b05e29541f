"""Timing of contenders in turns, block by block, so that a slow machine slows all of them."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

WARM_UP = 8  # steps to compile, to allocate, and for the first checks of compiled graphs
Step = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """Ours against another implementation: milliseconds a step, and the ratio in each block."""

    work: str
    ours: str
    against: str
    goal: float
    ours_ms: float
    against_ms: float
    ratio: float
    low: float
    high: float

    @property
    def reached(self) -> bool:
        """Whether the median ratio is at most the goal."""
        return self.ratio <= self.goal


def in_turn(contenders: Mapping[str, Step], blocks: int, steps: int) -> dict[str, list[float]]:
    """Seconds a step of each contender in each block, in random order.

    (The order matters: caches, and threads that still spin.)
    """
    for step in contenders.values():
        for _ in range(WARM_UP):
            step()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    shuffled = random.Random(0)
    for _ in range(blocks):
        for name in shuffled.sample(list(contenders), len(contenders)):
            times[name].append(seconds(contenders[name], steps))
    return times


def seconds(step: Step, steps: int) -> float:
    """Seconds of one step."""
    began = time.perf_counter()
    for _ in range(steps):
        last = step()
    getattr(last, "block_until_ready", lambda: None)()  # of jax: waits for the result
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def rows(
    work: str, ours: str, goals: Mapping[str, float], times: Mapping[str, list[float]]
) -> Iterator[Row]:
    """One row for each of the others that has a goal."""
    for against, goal in goals.items():
        if against in times:
            pairs = zip(times[ours], times[against], strict=True)
            low, mid, high = statistics.quantiles([mine / theirs for mine, theirs in pairs])
            a, b = (1e3 * statistics.median(times[name]) for name in (ours, against))
            yield Row(work, ours, against, goal, a, b, mid, low, high)
