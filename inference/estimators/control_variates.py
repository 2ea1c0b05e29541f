"""Score function minus a differentiable stand-in for the signal, whose gradient is put back.

REBAR: Tucker et al. 2017.  RELAX: Grathwohl et al. 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor, nn

from inference.estimators.antithetic import uniform_given
from inference.estimators.base import Estimator
from inference.estimators.baselines import MovingAverage
from inference.estimators.ledger import Choice, Ledger, read_ledger
from inference.estimators.programs import ModelAndGuide, TracePair, replay_prefix
from inference.estimators.relaxed import (
    LOWEST,
    Relax,
    gumbel_like,
    refuse_unrelaxable,
    relaxed_sample,
)
from inference.util.sites import base, distribution_name


class REBAR(Estimator):
    """``[f(b) − c(z̃)] ∇log q(b) + ∇c(z) − ∇c(z̃)``, c(z) = η f(σ(z/τ)) the relaxed signal.

    b = H(z) is the draw, z its perturbed logits, z̃ a draw of z given b; f is what the site is
    charged with, and in c all later sites are relaxed, too.  z and z̃ share their noise (appendix
    of the paper), so that they are equal by value, not by gradient, and c is evaluated once.
    Unbiased for any τ and η, which follow the gradient of the estimate's own variance in the
    logits; a moving average of f − c is a baseline beside.  Site by site, 1 + n evaluations for n
    sites; Bernoulli, one-hot and reparameterised ones.

    Args:
        temperature: τ at first.
        scale: η at first.

    Raises:
        UserError: a site is none of these.
    """

    def __init__(
        self,
        num_particles: int = 1,
        *,
        temperature: float = 0.5,
        scale: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(num_particles, **options)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.average = MovingAverage()

    def estimate(
        self, programs: ModelAndGuide, draws: Sequence[TracePair]
    ) -> tuple[Tensor, Tensor]:
        """(bound, surrogate)."""
        bounds, surrogates = [], []
        for draw in draws:
            main = read_ledger([draw])
            bounds.append(main.elbo().mean())
            surrogate = main.pathwise().mean()
            if torch.is_grad_enabled():
                parts = [
                    self._site(choice, main, draw[1], programs)
                    for choice in main.non_reparameterised()
                ]
                surrogate = surrogate + sum(parts) / len(main.elbo())
            surrogates.append(surrogate)
        return torch.stack(bounds).mean(), torch.stack(surrogates).mean()

    def addition(self, z: Tensor, signal: Tensor) -> Tensor:
        """What c has beyond the relaxed signal, of its shape (batch …): nothing."""
        return torch.zeros_like(signal)

    def _site(self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide) -> Tensor:
        """A scalar whose gradient is the site's, and for τ and η that of its variance."""
        refuse_unrelaxable(type(self).__name__, choice.name, choice.fn)
        gradient, logits = self._gradient(choice, main, trace, programs)
        own = [p for p in self.parameters() if p.requires_grad]
        if not own:
            return (gradient.detach() * logits).sum()
        slopes = torch.autograd.grad(gradient.square().sum(), own, allow_unused=True)
        variance = sum((s * p).sum() for s, p in zip(slopes, own, strict=True) if s is not None)
        return (gradient.detach() * logits).sum() - variance

    def _gradient(
        self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide
    ) -> tuple[Tensor, Tensor]:
        """(the estimate in the logits, differentiable in τ and η; the logits)."""
        inner = base(choice.fn)
        bit: Any = trace.nodes[choice.name]["value"]
        logits = inner.logits.clamp(min=LOWEST)
        leaf = logits.detach().requires_grad_()
        at_leaf = type(inner)(logits=leaf, validate_args=False)
        z_given_b = conditional_logits(at_leaf, bit)
        z = z_given_b.detach().requires_grad_()
        f = choice.in_batch(main.signals({choice.name})[choice.name])
        signal, total = self._relaxed(choice, trace, programs, z, at_leaf)
        more = self.addition(z, signal)
        c = self.scale * signal + more
        # a term outside of a plate is in the signal of each of its elements, and moves once
        path = self.scale * total + more.sum()
        (slope,) = torch.autograd.grad(path, z, create_graph=True)
        # ∇c(z) − ∇c(z̃): z moves with φ one to one, z̃ moves as its formula says
        (moved,) = torch.autograd.grad(z_given_b, leaf, slope, create_graph=True)
        (score,) = torch.autograd.grad(at_leaf.log_prob(bit).sum(), leaf)
        rest = f - c - self.average(choice.name, (f - c).detach(), (), {})
        return choice.beside_events(rest) * score + slope - moved, logits

    def _relaxed(
        self, choice: Choice, trace: Trace, programs: ModelAndGuide, z: Tensor, inner: Any
    ) -> tuple[Tensor, Tensor]:
        """The signal (batch …) at the relaxed draw of z, and the sum of all its terms."""
        temperature = self.log_temperature.exp()
        start = replay_prefix(trace, choice.name, relaxed_sample(inner, z, temperature))
        relaxed = read_ledger([programs.run(start, Relax(temperature))])
        signal = relaxed.signals({choice.name}, detach=False)[choice.name]
        total = sum(t.value.sum() for t in relaxed.terms if t.time >= choice.time)
        return choice.in_batch(signal), torch.as_tensor(total)


class RELAX(REBAR):
    """REBAR with a learned addition to the stand-in: c(z) = η f(σ(z/τ)) + r(z).

    Args:
        surrogate: r, a module (batch …, event …) → (batch …), which must be a function of each
            element of the plates by itself.
    """

    def __init__(self, surrogate: nn.Module, num_particles: int = 1, **options: Any) -> None:
        super().__init__(num_particles, **options)
        self.surrogate = surrogate

    def addition(self, z: Tensor, signal: Tensor) -> Tensor:
        """r(z)."""
        return self.surrogate(z).reshape(signal.shape)


def conditional_logits(inner: Any, bit: Tensor) -> Tensor:
    """z given H(z) = b, reparameterised (Tucker et al. 2017, appendix C)."""
    if distribution_name(inner) == "Bernoulli":
        u = uniform_given(bit, torch.sigmoid(inner.logits))  # z = φ − logit u > 0 where u < σ(φ)
        tiny = torch.finfo(u.dtype).eps
        return inner.logits - torch.logit(u.clamp(tiny, 1 - tiny))
    gumbel = gumbel_like(inner.logits)
    top = (gumbel * bit).sum(-1, keepdim=True)  # the maximum's: its φ is normalised away
    others = -torch.logaddexp(-gumbel - inner.logits.log_softmax(-1), -top)
    return torch.where(bit > 0, top, others)
