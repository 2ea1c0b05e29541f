"""Reweighted wake-sleep: the guide is fitted by importance weights.

Bornschein & Bengio 2015; Le et al. 2019.  Weights are normalised for each datum, over particles.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from inference.estimators.multi_sample import MultiSample, Units
from inference.util.errors import UserError


class ReweightedWakeSleep(MultiSample):
    """The model follows the K-sample bound, ``Σ_k w̃_k ∇log p(x, z_k)``; the guide a divergence.

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.tensor(0.3, requires_grad=True)
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(0.5))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=w))
    >>> loss = ReweightedWakeSleep(2, divergence="exclusive").differentiable_loss(model, guide)
    >>> loss.backward()  # w.grad: of KL(q ‖ p), by the leave-one-out score function

    Any site (no gradient passes through a draw); 2K model evaluations.  For the model unbiased as
    a gradient of the bound.

    Args:
        divergence: "inclusive", the guide descends KL(p(z | x) ‖ q) by ``−Σ_k w̃_k ∇log q(z_k)``
            (the wake phase), whose bias goes as 1/K; or "exclusive", it descends KL(q ‖ p(z | x))
            by the leave-one-out score function, unbiased.

    Raises:
        UserError: K = 1, where every weight is 1.
    """

    unbiased = False
    rescores = True

    def __init__(
        self,
        num_particles: int = 2,
        *,
        divergence: Literal["inclusive", "exclusive"] = "inclusive",
        **options: Any,
    ) -> None:
        if num_particles < 2:
            raise UserError("ReweightedWakeSleep needs num_particles of 2 or more")
        super().__init__(num_particles, **options)
        self.divergence = divergence

    def surrogate(self, units: Units, fixed: Units) -> Tensor:
        """w̃ log p for the model, the divergence's weights × log q for the guide."""
        log_p, log_q = fixed.log_weights(of_guide=False), -fixed.log_weights(of_guide=True)
        share = units.shares()
        weight = share if self.divergence == "inclusive" else self._centred(units)
        return units.total(share * log_p + weight * log_q)

    def _centred(self, units: Units) -> Tensor:
        """(K, units …) (log w_k − the mean of the others) / K."""
        log_w = units.log_weights().detach()
        centred: Tensor = log_w - log_w.mean(0, keepdim=True)
        return centred.div(self.num_particles - 1)
