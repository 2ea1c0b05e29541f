"""Factors as pure functions of progress in [0, 1]: of the learning rate, or of the KL's weight."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def warm_up(share: float) -> Schedule:
    """Linear from near 0 to 1 during the first ``share`` of training, then 1.

    As the weight β of the KL this is the annealing of Bowman et al. 2016 and Sønderby et al. 2016.
    """

    def factor(progress: float) -> float:
        return 1.0 if progress >= share else max(progress / share, 1e-4)

    return factor


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine}
