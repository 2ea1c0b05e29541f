"""Where a glimpse may be: p(l | state), and what is seen there.  One class a kind of place."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppl_models.retina import Retina


class NormalWithoutPath(dist.Normal):
    """A Gaussian whose draws carry no gradient: estimators use its score alone.

    A class of its own, as ``has_rsample_(False)`` on an instance is lost by ``expand``.
    """

    has_rsample = False


class Plane(nn.Module):
    """Places (…, B, 2) that may lie anywhere; what is beyond the image is seen as 0."""

    dims = 2

    def __init__(self, retina: Retina) -> None:
        super().__init__()
        self.retina = retina

    def scene(self, x: Tensor) -> Tensor:
        """What ``glimpse`` reads of the images (B, C, H, W)."""
        return x

    def glimpse(self, scene: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """(the patches seen, (…, B, K, side, side); the place in [−1, 1]², (…, B, 2))."""
        place = where.clamp(-1, 1)
        return self.retina(scene, place), place


class Anywhere(Plane):
    """l ~ N(tanh(locate(h)) + tilt, σ²).

    Args:
        retina: a smooth one makes l reparameterised, a sharp one makes it a site for the score.
        width: length of the state h that the locator reads.
        sigma: σ, in half images.
        at_first: what σ is at first; if that is more, σ = sigma + (at_first − sigma) eʳ, r learned.
            Looks then begin all over the image, and narrow as it pays to know where.
    """

    def __init__(
        self, retina: Retina, width: int, sigma: float, at_first: float | None = None
    ) -> None:
        super().__init__(retina)
        self.least, self.locate = sigma, nn.Linear(width, self.dims)
        self.normal = dist.Normal if retina.smooth else NormalWithoutPath
        self.wider = 0.0 if at_first is None else at_first - sigma
        if self.wider:
            self.log_excess = nn.Parameter(torch.zeros(()))

    @property
    def sigma(self) -> Tensor | float:
        """σ as it is now."""
        return self.least + self.wider * self.log_excess.exp() if self.wider else self.least

    def forward(self, h: Tensor, tilt: Tensor | float = 0.0) -> TorchDistribution:
        """The distribution of l given h (…, B, width)."""
        mean = torch.tanh(self.locate(h)) + tilt
        return self.normal(mean, torch.ones_like(mean) * self.sigma).to_event(1)


class AtRandom(Plane):
    """l ~ U[−1, 1]²: what looking is worth without choosing."""

    def forward(self, h: Tensor, tilt: Tensor | float = 0.0) -> TorchDistribution:
        """The distribution of l; h (…, B, width) gives its shape alone."""
        edge = h.new_ones(*h.shape[:-1], self.dims)
        return dist.Uniform(-edge, edge).to_event(1)


class OnGrid(nn.Module):
    """l ~ OneHot(softmax(locate(h) + tilt)) over the centres of side × side equal cells.

    Everything is linear in l, so that relaxed draws (Gumbel-softmax) see a mixture of patches.
    """

    centres: Tensor

    def __init__(self, retina: Retina, width: int, side: int) -> None:
        super().__init__()
        self.retina, self.dims = retina, side**2
        self.locate = nn.Linear(width, side**2)
        line = (2 * torch.arange(side) + 1) / side - 1
        rows, columns = torch.meshgrid(line, line, indexing="ij")
        self.register_buffer("centres", torch.stack([columns, rows], -1).reshape(-1, 2))

    def forward(self, h: Tensor, tilt: Tensor | float = 0.0) -> TorchDistribution:
        """The distribution of l (…, B, side²), row by row, given h (…, B, width)."""
        return dist.OneHotCategorical(logits=self.locate(h) + tilt)

    def scene(self, x: Tensor) -> Tensor:
        """The patches of all cells, (B, side², K, s, s)."""
        everywhere = self.centres[:, None].expand(-1, len(x), 2)
        return self.retina(x, everywhere).movedim(0, 1)

    def glimpse(self, scene: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """(the patches seen, (…, B, K, s, s); the place in [−1, 1]², (…, B, 2))."""
        patch = torch.einsum("...bl,blkij->...bkij", where, scene)
        return patch, where @ self.centres


Places = Anywhere | AtRandom | OnGrid
