"""Likelihoods p(x | z) of an image, given the decoder's output at each of its pixels.

Each is a module from the output (..., *shape) to a distribution whose event is one image.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

Size = torch.Size | list[int] | tuple[int, ...]


class Likelihood(nn.Module):
    """p(x | z) of an image x, given the decoder's output at z."""

    def forward(self, output: Tensor, event_dim: int) -> TorchDistribution:
        """p(x | z), an image an event of so many dimensions."""
        raise NotImplementedError

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z], the shape of ``output``."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """p(x = 1 | z) = σ(output), pixel by pixel.

    Grey levels in [0, 1] are accepted, as in the reference VAE scripts; the log-probability is
    then the negative cross-entropy of the level, which is not a normalised density of it.
    """

    def forward(self, output: Tensor, event_dim: int) -> TorchDistribution:
        """p(x | z), an image an event."""
        return dist.Bernoulli(logits=output, validate_args=False).to_event(event_dim)

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z], the shape of ``output``."""
        return torch.sigmoid(output)


class Gaussian(Likelihood):
    """x ~ N(output, σ²) with one learned σ."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-1.0))

    def forward(self, output: Tensor, event_dim: int) -> TorchDistribution:
        """p(x | z), an image an event."""
        return dist.Normal(output, self.log_scale.exp()).to_event(event_dim)

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z], the shape of ``output``."""
        return output


class DiscretizedLogistic(Likelihood):
    """A logistic around the output, integrated over each of 256 grey levels; one learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-2.0))

    def forward(self, output: Tensor, event_dim: int) -> TorchDistribution:
        """p(x | z), an image an event."""
        return LogisticBins(output, self.log_scale.exp()).to_event(event_dim)

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z], the shape of ``output``."""
        return output.clamp(0, 1)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "discretized-logistic": DiscretizedLogistic,
}


class LogisticBins(TorchDistribution):
    """P(x = j / (bins − 1)) = σ((x + h − loc)/scale) − σ((x − h − loc)/scale), h half a bin.

    The first and last bin take the tails, so that the probabilities sum to one.  Salimans et al.
    2017, *PixelCNN++*, equation 2.

    Args:
        loc: centre, any shape.
        scale: positive, broadcastable with ``loc``.
        bins: number of equally spaced values in [0, 1].
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    support = constraints.unit_interval

    def __init__(
        self, loc: Tensor, scale: Tensor, bins: int = 256, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.bins = bins
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: None = None) -> LogisticBins:
        """The same distribution with a larger batch shape."""
        return LogisticBins(
            self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.bins, False
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, shape of ``value``; log(e^-a − e^-b) forms keep far tails finite."""
        half = 0.5 / (self.bins - 1)
        upper = (value + half - self.loc) / self.scale
        lower = (value - half - self.loc) / self.scale
        # σ(u) − σ(l) = σ(u) σ(−l) (1 − e^(l−u))
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        first, last = value < half, value > 1 - half
        return torch.where(
            first, F.logsigmoid(upper), torch.where(last, F.logsigmoid(-lower), inside)
        )

    def sample(self, sample_shape: Size = ()) -> Tensor:
        """A logistic draw, rounded to its bin."""
        with torch.no_grad():
            u = torch.rand(self._extended_shape(torch.Size(sample_shape)), device=self.loc.device)
            draw = self.loc + self.scale * torch.logit(u, eps=1e-7)
            return (draw.clamp(0, 1) * (self.bins - 1)).round() / (self.bins - 1)
