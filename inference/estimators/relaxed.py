"""Gradients through a continuous relaxation of discrete draws.  Biased, with little noise.

Maddison et al. 2017 (Concrete), Jang et al. 2017 (Gumbel-softmax); straight-through: Bengio et al.
2013.  Gumbel-max: argmax_i (φ_i + G_i) with independent Gumbel noise G_i is a draw of softmax(φ).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from inference.estimators.antithetic import uniform_given
from inference.estimators.base import Estimator
from inference.estimators.ledger import read_ledger
from inference.estimators.programs import ModelAndGuide, TracePair
from inference.util.errors import UserError
from inference.util.sites import base, distribution_name

RELAXABLE = ("Bernoulli", "OneHotCategorical")
LOWEST = -1e6  # replaces a logit of −∞, as 0 · ∞ is nan; the probability is 0, too


class Relaxed(Estimator):
    """The pathwise gradient through draws that stand for discrete ones."""

    unbiased = False

    def estimate(
        self, programs: ModelAndGuide, draws: Sequence[TracePair]
    ) -> tuple[Tensor, Tensor]:
        """(bound, bound)."""
        ledger = read_ledger(draws)
        ledger.require_reparameterised(
            type(self).__name__, "OneHotCategorical for it, or LeaveOneOut(num_particles=4)"
        )
        elbo = ledger.elbo().mean()
        return elbo, elbo

    def draw(self, programs: ModelAndGuide) -> TracePair:
        """The traces with every discrete site relaxed."""
        return programs.run(around=Relax(self.relaxed))

    @abstractmethod
    def relaxed(self, inner: Any) -> Tensor:
        """A draw for a Bernoulli or one-hot distribution, with a gradient to its logits."""


class GumbelSoftmax(Relaxed):
    """Pathwise gradient through ``σ((φ + logistic noise)/τ)`` or ``softmax((φ + G)/τ)``.

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.zeros(3, requires_grad=True)
    >>> model = lambda: pyro.sample("k", dist.OneHotCategorical(torch.ones(3) / 3))
    >>> guide = lambda: pyro.sample("k", dist.OneHotCategorical(logits=w))
    >>> loss = GumbelSoftmax(temperature=0.5, hard=True).differentiable_loss(model, guide)
    >>> loss.backward()  # through the relaxed draw, whose value is one-hot

    Relaxed draws replace the discrete ones; log p and log q of a relaxed draw are the discrete
    log-probabilities extended linearly, ``Σ_i z_i log p_i``.  Biased: it is the gradient of another
    function, whose value is also the reported bound, unless ``hard``.  One model evaluation a
    particle; Bernoulli, one-hot and reparameterised sites.

    Args:
        temperature: τ.
        hard: straight-through: the draw is the discrete one, the gradient is the relaxed one's.

    Raises:
        UserError: a site is none of these.
    """

    def __init__(
        self,
        num_particles: int = 1,
        *,
        temperature: float = 0.5,
        hard: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(num_particles, **options)
        self.temperature, self.hard = temperature, hard

    def relaxed(self, inner: Any) -> Tensor:
        """σ(z/τ) or softmax(z/τ) of the perturbed logits z."""
        return relaxed_sample(inner, perturbed_logits(inner), self.temperature, self.hard)


class Relax(Messenger):
    """Draws Bernoulli and one-hot sites by ``relaxed``, and scores them as continued."""

    def __init__(self, relaxed: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.relaxed = relaxed

    def _pyro_sample(self, msg: Message[..., Any]) -> None:
        if msg["is_observed"] or distribution_name(msg["fn"]) not in RELAXABLE:
            return
        fn: Any = msg["fn"]
        msg["fn"] = relaxed_distribution(fn)
        if msg["value"] is None:
            msg["value"] = self.relaxed(base(fn))
            msg["done"] = True


def perturbed_logits(inner: Any) -> Tensor:
    """z = φ + noise (logistic or Gumbel), whose threshold or argmax is the draw."""
    logits: Tensor = inner.logits
    if distribution_name(inner) == "Bernoulli":
        return logits + torch.logit(open_uniform(logits))
    return logits + gumbel_like(logits)


def hard_sample(inner: Any, z: Tensor) -> Tensor:
    """H(z): the draw, by threshold or argmax."""
    if distribution_name(inner) == "Bernoulli":
        return (z > 0).to(z)
    return torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]).to(z)


def relaxed_sample(
    inner: Any, z: Tensor, temperature: float | Tensor, hard: bool = False
) -> Tensor:
    """σ(z/τ) or softmax(z/τ); with ``hard``, H(z) in value, with the relaxed gradient."""
    scaled = z / temperature
    is_bit = distribution_name(inner) == "Bernoulli"
    soft = torch.sigmoid(scaled) if is_bit else torch.softmax(scaled, -1)
    return soft + (hard_sample(inner, z) - soft).detach() if hard else soft


def conditional_logits(inner: Any, bit: Tensor) -> Tensor:
    """z given H(z) = b, reparameterised (Tucker et al. 2017, appendix C)."""
    logits: Tensor = inner.logits
    if distribution_name(inner) == "Bernoulli":
        u = uniform_given(bit, torch.sigmoid(logits))  # z = φ − logit u > 0 where u < σ(φ)
        tiny = torch.finfo(u.dtype).eps
        return logits - torch.logit(u.clamp(tiny, 1 - tiny))
    gumbel = gumbel_like(logits)
    top = (gumbel * bit).sum(-1, keepdim=True)  # of the maximum; φ is normalised
    others = -torch.logaddexp(-gumbel - logits.log_softmax(-1), -top)
    return torch.where(bit > 0, top, others)


def open_uniform(like: Tensor) -> Tensor:
    """U(0, 1), endpoints excluded."""
    tiny = torch.finfo(like.dtype).eps
    return torch.rand_like(like).clamp(tiny, 1 - tiny)


def gumbel_like(like: Tensor) -> Tensor:
    """Independent G = −log(−log u), of the shape of ``like``."""
    return -(-open_uniform(like).log()).log()


def relaxed_distribution(fn: Any) -> Any:
    """The distribution with its log-probability continued to relaxed draws, multilinearly."""
    if isinstance(fn, dist.MaskedDistribution):
        return relaxed_distribution(fn.base_dist).mask(fn._mask)
    if isinstance(fn, torch.distributions.Independent):
        inside, dims = relaxed_distribution(fn.base_dist), fn.reinterpreted_batch_ndims
        return dist.Independent(inside, dims, validate_args=False)
    kind = SoftBernoulli if distribution_name(fn) == "Bernoulli" else SoftOneHot
    return kind(logits=fn.logits, validate_args=False)


class SoftBernoulli(dist.Bernoulli):  # type: ignore[misc]
    """``z log p + (1 − z) log(1 − p) = z φ − log(1 + e^φ)`` for z in [0, 1]."""

    has_rsample = True

    def log_prob(self, value: Tensor) -> Tensor:
        """The continued log-probability."""
        logits: Tensor = self.logits.clamp(LOWEST, -LOWEST)
        return value * logits - torch.nn.functional.softplus(logits)


class SoftOneHot(dist.OneHotCategorical):
    """``Σ_i z_i log p_i`` for z in the simplex."""

    has_rsample = True

    def log_prob(self, value: Tensor) -> Tensor:
        """The continued log-probability."""
        return (value * self.logits.clamp(min=LOWEST)).sum(-1)


def refuse_unrelaxable(estimator: str, name: str, fn: Any) -> None:
    """Raise a ``UserError`` unless the site can be relaxed."""
    if distribution_name(fn) not in RELAXABLE:
        raise UserError(
            f"{estimator} relaxes Bernoulli and OneHotCategorical, but site {name!r} is a "
            f"{distribution_name(fn)}: use OneHotCategorical there, or LeaveOneOut(num_particles=4)"
        )
