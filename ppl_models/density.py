"""Noise-contrastive estimation of an unnormalised density: Gutmann & Hyvärinen 2012.

A model gives log u(x), not Z = ∫ u(x) dx.  Each datum is joined by ν points of noise of known
density q.  The optimal classifier of data and noise depends on p(x) = u(x) / Z, so that log Z is
learned like any other parameter.  (For words from a vocabulary, see ``ppl_models.nce``.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.infer.util import is_validation_enabled
from pyro.nn import PyroModule
from torch import Tensor, nn


class DensityNCE(PyroModule):
    """y = 1 for data and y = 0 for noise, y ~ Bernoulli(p / (p + νq)): sites "data" and "noise".

    A program without latents: fit it with ``guides.empty.Empty``.  A row is one point, or several,
    one for each of as many separate densities.

    Args:
        log_u: points (…, *places, *event) → log u(x) (…, *places); log Z absorbs constants.
        noise: q of one point, positive at all data; on the data's device.
        nu: ν, points of noise beside each datum.
        size: N, rows of the whole data set.
        log_z: initial log Z, a number or (*places,).
    """

    def __init__(
        self,
        log_u: Callable[[Tensor], Tensor],
        noise: TorchDistribution,
        nu: int,
        size: int,
        log_z: float | Tensor = 0.0,
    ) -> None:
        super().__init__()
        self.log_u, self.noise, self.nu, self.size = log_u, noise, nu, size
        self.log_z = nn.Parameter(torch.as_tensor(log_z, dtype=torch.get_default_dtype()).clone())

    def forward(self, x: Tensor) -> None:
        """Points x (B, *places, *event).

        Raises:
            ValueError: q is 0 at one of them (checked if Pyro's validation is on).
        """
        if is_validation_enabled():
            self.refuse_uncovered(x)
        row = x.shape[: x.dim() - self.noise.event_dim]
        noise = self.noise.sample(torch.Size((self.nu, *row)))
        with pyro.plate("rows", self.size, subsample=x):
            observe_label("data", self.logit(x), 1.0, len(row) - 1)
            with pyro.plate("beside", self.nu):
                observe_label("noise", self.logit(noise), 0.0, len(row) - 1)

    def logit(self, x: Tensor) -> Tensor:
        """log p(x) − log ν q(x), (…, *places): how much points look like data."""
        return self.log_p(x) - math.log(self.nu) - self.noise.log_prob(x)

    def log_p(self, x: Tensor) -> Tensor:
        """log u(x) − log Z, (…, *places): at the optimum the log-density of the data."""
        return self.log_u(x) - self.log_z

    def refuse_uncovered(self, x: Tensor) -> None:
        """Raise a ``ValueError`` where q = 0: such data are classified without knowing p."""
        support = self.noise.support
        assert support is not None  # of a density
        inside = support.check(x)
        if bool(inside.all()):
            inside = self.noise.log_prob(x) > -math.inf
        if not bool(inside.all()):
            raise ValueError(
                f"the noise has density 0 at {int((~inside).sum())} of {inside.numel()} data: "
                "give noise that can come wherever data lie, such as a wider Normal or StudentT"
            )


def observe_label(name: str, logit: Tensor, y: float, places: int) -> None:
    """Observe the label y of points; their last dimensions are a row's places."""
    question = dist.Bernoulli(logits=logit).to_event(places)
    pyro.sample(name, question, obs=torch.full_like(logit, y))
