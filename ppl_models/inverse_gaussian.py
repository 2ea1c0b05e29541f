"""The inverse Gaussian distribution, with reparameterised draws."""

from __future__ import annotations

import math

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

Size = torch.Size | list[int] | tuple[int, ...]


class InverseGaussian(TorchDistribution):
    """Density √(c/2πx³) exp(−c (x − m)² / 2m²x) on x > 0, of mean m and variance m³/c.

    Draws by Michael, Schucany & Haas 1976: a root of a quadratic with a χ² variable, one of two
    by chance.  That choice has no path, so the gradient of a draw is the implicit one (Figurnov et
    al. 2018), dx/dθ = −∂F/∂θ / p(x), which for this family is in closed form.

    Args:
        loc: m, positive.
        concentration: c, positive.
    """

    arg_constraints = {  # noqa: RUF012
        "loc": constraints.positive,
        "concentration": constraints.positive,
    }
    support = constraints.positive
    has_rsample = True

    def __init__(
        self, loc: Tensor, concentration: Tensor | float, validate_args: bool | None = None
    ) -> None:
        concentration = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
        self.loc, self.concentration = torch.broadcast_tensors(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: None = None) -> InverseGaussian:
        """The same distribution with a larger batch shape."""
        return InverseGaussian(
            self.loc.expand(batch_shape), self.concentration.expand(batch_shape), False
        )

    @property
    def mean(self) -> Tensor:
        """m."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """m³/c."""
        return self.loc**3 / self.concentration

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats."""
        c = self.concentration
        spread = c * ((value - self.loc) / self.loc) ** 2 / value
        return 0.5 * (c.log() - math.log(2 * math.pi) - 3 * value.log() - spread)

    def rsample(self, sample_shape: Size = ()) -> Tensor:
        """A draw, with its implicit gradient in m and c."""
        shape = self._extended_shape(torch.Size(sample_shape))
        m, c = self.loc.expand(shape), self.concentration.expand(shape)
        x = self._draw(m.detach(), c.detach())
        to_m, to_c = slopes(x, m.detach(), c.detach())
        return x + to_m * (m - m.detach()) + to_c * (c - c.detach())

    @staticmethod
    def _draw(m: Tensor, c: Tensor) -> Tensor:
        """The smaller root x₁ of c (x − m)² = y m² x with probability m/(m + x₁), else m²/x₁."""
        half = m * torch.randn_like(m) ** 2 / (2 * c)  # x₁ = m (1 + h − √(2h + h²))
        ratio = 1 / (1 + half + (2 * half + half**2).sqrt())  # the same, without cancellation
        smaller = torch.rand_like(m) * (1 + ratio) <= 1
        return m * torch.where(smaller, ratio, 1 / ratio)


def slopes(x: Tensor, m: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(∂x/∂m, ∂x/∂c) at a fixed value of F(x), F = Φ(a) + e^{2c/m} Φ(−b), b = √(c/x) (x/m + 1).

    ∂F/∂m = −2c/m² e^{2c/m} Φ(−b), and e^{2c/m} Φ(−b) / p(x) = √(x³/c) M(b), M Mills' ratio.
    """
    b = (c / x).sqrt() * (x / m + 1)
    tail = (x**3 / c).sqrt() * mills(b)
    return 2 * c / m**2 * tail, x / c - 2 / m * tail


def mills(b: Tensor) -> Tensor:
    """Φ(−b)/φ(b)."""
    return math.sqrt(math.pi / 2) * torch.special.erfcx(b / math.sqrt(2))
