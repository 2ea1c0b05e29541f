"""Whether draws have the mean that they should have: a test without normal distributions.

A t-test calls an unbiased estimator biased if what carries its mean was never drawn (a latent's
value of probability 10⁻⁴ in 500 draws): the draws then agree with each other, and not with the
truth.  Here gamblers bet against "the mean is right".  One with stake λ has, after draws d₁ … d_n
of the difference from what it should be, the wealth Π (1 + λ dᵢ).  If E d = 0, no gambler expects
to gain, so that the average wealth W of several has E W = 1, and P(W ≥ 1/α) ≤ α (Markov): a test of
level α for any n and any distribution within ±r, where stakes are at most 1/(2r).  The reach r must
cover what was not drawn, too: ``inference.workflow.rare`` looks for it.

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
POWER = 0.95  # with which a bias of at least the ``resolution`` is seen
TOLERANCE = 0.05  # of the gradient's norm: "unbiased" rules out a bias as large as this
BISECTIONS = 20
MARGIN = 1.5  # reach / the largest deviation that was seen or looked for


@dataclass(frozen=True)
class Sample:
    """Gradients in Q directions.

    Attributes:
        draws: (n, Q), or (1, Q) of a constant.
        deviation: (Q,) the largest that a draw can have from their mean.
        rounding: (Q,) of a draw.
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
        """(Q,) each, for differences about ``mean`` (Q,): halved from the largest allowed down to
        what suits a normal distribution."""
        reach = MARGIN * self.deviation + mean.abs() + self.rounding
        largest = 0.5 / reach.clamp(min=torch.finfo(reach.dtype).tiny)
        for i in range(max(2, math.ceil(math.log2(len(self.draws)) / 2) - 2) + 1):
            yield largest * 0.5**i


def log_wealth(sample: Sample) -> float:
    """Log of the gamblers' average wealth: those of each stake, sign and direction."""
    wealth = []
    for stake in sample.stakes(sample.draws.mean(0)):
        for sign in (1, -1):
            gain = sign * sample.draws - sample.rounding  # a mean within the rounding is right
            wealth.append((stake * gain).log1p().sum(0))
    every = torch.stack(wealth).flatten()
    return float(every.logsumexp(0)) - math.log(len(every))


def log_level(tests: int) -> float:
    """Log-wealth that proves a bias where so many tests share the family-wise error."""
    return math.log(tests / FAMILY_WISE_ERROR)


def resolution(sample: Sample, tests: int) -> Tensor:
    """(Q,) the least mean in each direction that is seen with probability ``POWER``.

    By bisection: the draws, moved to that mean, give one gambler the wealth that proves a bias, at
    the quantile 1 − POWER of what chance gives (normal: the sum of log (1 + λ d) has light tails).
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
    """(Q,) whether means of ± ``mean`` are both seen."""
    n, stakes = len(centred.draws), list(centred.stakes(mean))
    needed = log_level(tests) + math.log(2 * len(stakes) * len(mean))
    unlucky = NormalDist().inv_cdf(1 - POWER) * n**0.5
    seen = []
    for sign in (1, -1):
        gain = sign * centred.draws + mean - centred.rounding
        logs = [(stake * gain).log1p() for stake in stakes]
        seen.append(torch.stack([n * v.mean(0) + unlucky * v.std(0) for v in logs]).amax(0))
    return torch.stack(seen).amin(0) >= needed
