"""A test of a mean that does not assume normal distributions.

A t-test may call an unbiased estimator biased if rare draws carry its mean and none occurred (a
latent's value of probability 10⁻⁴ in 500 draws).  Testing by betting avoids that: a gambler with
stake λ who bets against E d = 0 has, after draws d₁ … d_n of the difference from the reference, the
wealth Π (1 + λ dᵢ).  If E d = 0, the expected wealth is 1, so that the average wealth W of several
gamblers has E W = 1, and P(W ≥ 1/α) ≤ α (Markov): a test of level α for any n and any distribution
within ±r, with stakes of at most 1/(2r).  The range r must cover draws that did not occur, too:
``inference.workflow.auditing.rare`` looks for them.

Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import torch
from torch import Tensor

FAMILY_WISE_ERROR = 1e-3  # of all verdicts of one audit: P(any "biased" where there is no bias)
POWER = 0.95  # probability to detect a bias of the ``resolution``
TOLERANCE = 0.05  # of the gradient's norm: "unbiased" rules out a bias as large as this
BISECTIONS = 20
MARGIN = 1.5  # range r / the largest deviation found


@dataclass(frozen=True)
class Sample:
    """Gradients in Q directions.

    Attributes:
        draws: (n, Q), or (1, Q) of a constant.
        deviation: (Q,) the largest deviation of a draw from the mean.
        rounding: (Q,) rounding error of a draw.
    """

    draws: Tensor
    deviation: Tensor
    rounding: Tensor

    def minus(self, other: Sample) -> Sample:
        """The differences of two independent samples, draw by draw."""
        return Sample(
            self.draws - other.draws,
            self.deviation + other.deviation,
            self.rounding + other.rounding,
        )

    def stakes(self, mean: Tensor) -> Iterator[Tensor]:
        """Stakes, (Q,) each, for differences about ``mean`` (Q,): halved from the largest allowed
        down to the optimum for a normal distribution."""
        reach = MARGIN * self.deviation + mean.abs() + self.rounding
        largest = 0.5 / reach.clamp(min=torch.finfo(reach.dtype).tiny)
        for i in range(max(2, math.ceil(math.log2(len(self.draws)) / 2) - 2) + 1):
            yield largest * 0.5**i


def log_wealth(sample: Sample) -> float:
    """Log of the average wealth of one gambler for each stake, sign and direction."""
    wealth = []
    for stake in sample.stakes(sample.draws.mean(0)):
        for sign in (1, -1):
            gain = sign * sample.draws - sample.rounding  # a mean within rounding error is 0
            wealth.append((stake * gain).log1p().sum(0))
    every = torch.stack(wealth).flatten()
    return float(every.logsumexp(0)) - math.log(len(every))


def log_level(tests: int) -> float:
    """The critical log-wealth if so many tests share the family-wise error."""
    return math.log(tests / FAMILY_WISE_ERROR)


def resolution(sample: Sample, tests: int) -> Tensor:
    """(Q,) the smallest mean in each direction that is detected with probability ``POWER``.

    By bisection: with the draws shifted to that mean, the (1 − POWER)-quantile of one gambler's
    log-wealth (approximately normal: the sum of log (1 + λ d) has light tails) is critical.
    """
    centred = sample.draws - sample.draws.mean(0)
    low = torch.zeros_like(sample.deviation)
    high = 8 * (centred.abs().amax(0) + sample.deviation + sample.rounding)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        seen = _is_seen(replace(sample, draws=centred), middle, tests)
        low, high = torch.where(seen, low, middle), torch.where(seen, middle, high)
    return torch.where(_is_seen(replace(sample, draws=centred), high, tests), high, math.inf)


def _is_seen(centred: Sample, mean: Tensor, tests: int) -> Tensor:
    """(Q,) whether means of + and − ``mean`` are both detected."""
    n, stakes = len(centred.draws), list(centred.stakes(mean))
    needed = log_level(tests) + math.log(2 * len(stakes) * len(mean))
    unlucky = NormalDist().inv_cdf(1 - POWER) * n**0.5
    seen = []
    for sign in (1, -1):
        gain = sign * centred.draws + mean - centred.rounding
        logs = [(stake * gain).log1p() for stake in stakes]
        seen.append(torch.stack([n * v.mean(0) + unlucky * v.std(0) for v in logs]).amax(0))
    return torch.stack(seen).amin(0) >= needed
