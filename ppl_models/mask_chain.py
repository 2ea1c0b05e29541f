"""What a mask costs, and the prior that the cost makes of it.

    Ω(z) = s Σ_t z_t + c Σ_t |z_t − z_{t−1}|

Lei et al. 2016, equation 3: few units, in few runs.  As a density, e^−Ω / Z is a chain of two
states whose Z follows from powers of a 2 × 2 matrix.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

PULL, PACE = 0.5, 0.02  # nats, of a rate that is too high by 1


def cost(z: Tensor, valid: Tensor, s: Tensor | float, c: Tensor | float) -> Tensor:
    """Ω (…, B) of masks z (…, B, T), in nats; valid (B, T) is False at padding, which is last."""
    kept = z * valid
    changes = (z[..., 1:] - z[..., :-1]).abs() * valid[..., 1:]
    return s * kept.sum(-1) + c * changes.sum(-1)


class Cost(nn.Module):
    """Ω with fixed weights, or with an s that holds the rate of selection.

    To hold the rate at r is to maximise the bound subject to E Σ_t z_t = r E T, with multiplier s.
    By the method of multipliers (Hestenes 1969), a batch of rate r̂ costs s + ``PULL`` (r̂ − r) a
    unit, and s grows by ``PACE`` (r̂ − r) a step of training.  Where s < 0, each unit left out costs
    |s|: the same but for a constant, with which e^−Ω stays a probability.

    Args:
        selection, coherence: s and c, nats; s is where it starts if a rate is held.
        rate: r in (0, 1), or None for a fixed s.
    """

    s: Tensor

    def __init__(self, selection: float, coherence: float, rate: float | None = None) -> None:
        super().__init__()
        self.c, self.rate = coherence, rate
        self.register_buffer("s", torch.tensor(selection))

    def forward(self, z: Tensor, valid: Tensor) -> Tensor:
        """(…, B) nats, of masks z (…, B, T) with padding where valid (B, T) is False."""
        s = self.s if self.rate is None else self.multiplier(z, valid, self.rate)
        return cost(z, valid, s, self.c) + (-s).clamp(min=0) * valid.sum(-1)

    def multiplier(self, z: Tensor, valid: Tensor, rate: float) -> Tensor:
        """() s + ``PULL`` (r̂ − r), nats a unit; in training, s takes its step first."""
        kept = (z * valid).detach().sum(-1).mean()
        excess = (kept / valid.sum(-1).double().mean() - rate).to(self.s)
        if self.training:
            self.s.add_(PACE * excess)
        return self.s + PULL * excess


class MaskChain(TorchDistribution):
    """p(z) = e^−Ω(z) / Z over masks (T,) of which the first n units exist.

    Units past n are not drawn (0) and count nothing.

    Args:
        s: cost of a unit, nats ().
        c: cost of a change, nats (), not negative.
        valid: (B, T) bool, True for the first n units of each datum.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.boolean, 1)

    def __init__(self, s: Tensor, c: Tensor, valid: Tensor) -> None:
        self.s, self.c, self.valid = s, c, valid
        super().__init__(valid.shape[:-1], valid.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> MaskChain:
        """The same for data of this batch shape."""
        shape = (*torch.Size(batch_shape), *self.event_shape)
        return MaskChain(self.s, self.c, self.valid.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """−Ω(z) − log Z."""
        return -cost(value, self.valid, self.s, self.c) - self.log_z()

    def log_z(self) -> Tensor:
        """log Z (…, B) for each datum's length."""
        return log_z(self.s, self.c, self.valid.sum(-1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Unit by unit, each given the one before and summed over those after it."""
        drawn: list[Tensor] = []
        shape = (*torch.Size(sample_shape), *self.batch_shape)
        with torch.no_grad():
            for t in range(self.event_shape[0]):
                logits = self.logits(t, drawn[-1] if drawn else None)
                p = torch.sigmoid(logits).expand(shape)
                drawn.append(torch.bernoulli(p) * self.valid[..., t])
        return torch.stack(drawn, -1)

    def logits(self, t: int, before: Tensor | None) -> Tensor:
        """Log-odds (…, B) of z_t = 1 given z_{t−1}: so the prior is a chain of Bernoulli sites."""
        turn = 0.0 if before is None else self.c * (2 * before - 1)
        left = (self.valid.sum(-1) - t - 1).clamp(min=0)
        return turn - self.s + self.messages()[left]

    def messages(self) -> Tensor:
        """log F_r(1)/F_r(0), r = 0 … T: F_r(z) = Σ e^−Ω of r more units after a unit z."""
        change, keep = torch.exp(-self.c), torch.exp(-self.s)
        ratio = [torch.ones_like(change)]
        for _ in range(self.event_shape[0]):
            last = ratio[-1]
            ratio.append((change + keep * last) / (1 + change * keep * last))
        return torch.stack(ratio).log()


class ChainPrior(nn.Module):
    """The prior e^−Ω / Z of the masks of texts.

    Args:
        selection, coherence: s and c, nats.
        learn: whether they are parameters.
    """

    s: Tensor
    c: Tensor

    def __init__(self, selection: float, coherence: float, learn: bool = False) -> None:
        super().__init__()
        for name, value in {"s": torch.tensor(selection), "c": torch.tensor(coherence)}.items():
            if learn:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, valid: Tensor) -> MaskChain:
        """Over masks (B, T) of the units that exist, valid (B, T); c is kept from below 0."""
        return MaskChain(self.s, self.c.relu(), valid)


def log_z(s: Tensor, c: Tensor, length: Tensor) -> Tensor:
    """log Σ_z e^−Ω(z) over the masks of each length (…); s and c are ().

    Z_n = vᵀ Mⁿ⁻¹ v for M = [[1, k], [k, b]], b = e^−s, k = e^(−c−s/2), v = (1, √b).  With the
    eigenvalues λ ≥ μ of M, Z_n = A λⁿ⁻¹ + B μⁿ⁻¹, where A and B follow from Z_1 and Z_2.
    """
    b = torch.exp(-s)
    root = torch.sqrt((1 - b) ** 2 + 4 * b * torch.exp(-2 * c))  # λ − μ
    largest = (1 + b + root) / 2
    smallest = -b * torch.expm1(-2 * c) / largest  # det M = λ μ
    z_1 = 1 + b
    z_2 = 1 + b**2 + 2 * b * torch.exp(-c)
    first, second = (z_2 - smallest * z_1) / root, (largest * z_1 - z_2) / root
    n = (length - 1).clamp(min=0)
    found = n * largest.log() + torch.log(first + second * (smallest / largest) ** n)
    return torch.where(length > 0, found, torch.zeros_like(found))
