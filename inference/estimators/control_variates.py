"""Score function with a differentiable control variate, whose expected gradient is added back.

REBAR: Tucker et al. 2017.  RELAX: Grathwohl et al. 2018.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor, nn

from inference.estimators.baselines import MovingAverage
from inference.estimators.ledger import Choice, Ledger, read_ledger, signal_of, value_of
from inference.estimators.programs import ModelAndGuide, replay_prefix
from inference.estimators.relaxed import (
    LOWEST,
    Relax,
    conditional_logits,
    perturbed_logits,
    refuse_unrelaxable,
    relaxed_sample,
)
from inference.estimators.sitewise import OneByOne, Part
from inference.util.sites import base


class REBAR(OneByOne):
    """``[f(b) − c(z̃)] ∇log q(b) + ∇c(z) − ∇c(z̃)``, c(z) = η f(σ(z/τ)) the relaxed signal.

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.tensor(0.0, requires_grad=True)
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(0.2))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=w))
    >>> REBAR(temperature=0.5).differentiable_loss(model, guide).backward()  # and of τ and η

    b = H(z) is the draw, z its perturbed logits, z̃ a draw of z given b; f is the site's learning
    signal, and in c all later sites are relaxed, too.  z and z̃ share their noise (appendix of the
    paper), so that they are equal in value, not in gradient, and c is evaluated once.  Unbiased for
    any τ and η, which are trained on the variance of the estimate in the logits; a moving average
    of f − c is a further baseline.  Site by site, 1 + n evaluations for n sites; Bernoulli, one-hot
    and reparameterised ones.

    Args:
        temperature: initial τ.
        scale: initial η.

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

    def addition(self, z: Tensor, signal: Tensor) -> Tensor:
        """The learned addition to c, of the signal's shape (batch …): 0."""
        return torch.zeros_like(signal)

    def one(self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide) -> Part:
        """The site's, and for τ and η that of its variance; relaxed draws are no branches."""
        if not torch.is_grad_enabled():
            return Part(torch.zeros(()))
        refuse_unrelaxable(type(self).__name__, choice.name, choice.fn)
        gradient, logits = self._gradient(choice, main, trace, programs)
        own = [p for p in self.parameters() if p.requires_grad]
        if not own:
            return Part((gradient.detach() * logits).sum())
        slopes = torch.autograd.grad(gradient.square().sum(), own, allow_unused=True)
        variance = sum((s * p).sum() for s, p in zip(slopes, own, strict=True) if s is not None)
        return Part((gradient.detach() * logits).sum() - variance)

    def _gradient(
        self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide
    ) -> tuple[Tensor, Tensor]:
        """(the estimate in the logits φ, differentiable in τ and η; the logits).

        In the order of the paper's equations, where φ is ``leaf`` and z, z̃ have one value:

        1. b = H(z), z = φ + noise: the draw and what it was made of;
        2. z̃ ~ p(z | b), reparameterised in φ (appendix C);
        3. c(z) = η f(σ(z/τ)), and r(z) more in RELAX;
        4. [f(b) − c(z̃)] ∇log q(b) + ∇c(z) − ∇c(z̃), with a baseline of f − c.
        """
        inner = base(choice.fn)
        b = value_of(choice, trace)  # 1
        logits: Tensor = inner.logits.clamp(min=LOWEST)
        leaf = logits.detach().requires_grad_()
        q = type(inner)(logits=leaf, validate_args=False)
        z_given_b = conditional_logits(q, b)  # 2
        z = z_given_b.detach().requires_grad_()
        f_relaxed, total = self._relaxed(choice, trace, programs, z, q)  # 3
        more = self.addition(z, f_relaxed)
        c = self.scale * f_relaxed + more
        # a term outside of a plate is in each element's signal, and counts once
        path = self.scale * total + more.sum()
        f = signal_of(choice, main)  # 4
        rest = f - c - self.average(choice.name, (f - c).detach(), (), {})
        (dc_dz,) = torch.autograd.grad(path, z, create_graph=True)  # z moves as φ does: ∇c(z)
        (through_z_given_b,) = torch.autograd.grad(z_given_b, leaf, dc_dz, create_graph=True)
        (score,) = torch.autograd.grad(q.log_prob(b).sum(), leaf)
        return choice.beside_events(rest) * score + dc_dz - through_z_given_b, logits

    def _relaxed(
        self, choice: Choice, trace: Trace, programs: ModelAndGuide, z: Tensor, inner: Any
    ) -> tuple[Tensor, Tensor]:
        """The signal (batch …) at the relaxed draw of z, and the sum of all its terms."""
        temperature = self.log_temperature.exp()

        def soft(later: Any) -> Tensor:
            return relaxed_sample(later, perturbed_logits(later), temperature)

        start = replay_prefix(trace, choice.name, relaxed_sample(inner, z, temperature))
        relaxed = read_ledger([programs.run(start, Relax(soft))])
        signal = relaxed.signals({choice.name}, detach=False)[choice.name]
        total = sum(t.value.sum() for t in relaxed.terms if t.time >= choice.time)
        return choice.in_batch(signal), torch.as_tensor(total)


class RELAX(REBAR):
    """REBAR with a learned addition to the control variate: c(z) = η f(σ(z/τ)) + r(z).

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.zeros(4, requires_grad=True)
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(torch.ones(4) / 2).to_event(1))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=w).to_event(1))
    >>> RELAX(nn.Linear(4, 1)).differentiable_loss(model, guide).backward()  # and of r, τ and η

    Args:
        surrogate: r, a module (batch …, event …) → (batch …), separate for each element of the
            plates.
    """

    def __init__(self, surrogate: nn.Module, num_particles: int = 1, **options: Any) -> None:
        super().__init__(num_particles, **options)
        self.surrogate = surrogate

    def addition(self, z: Tensor, signal: Tensor) -> Tensor:
        """r(z)."""
        more: Tensor = self.surrogate(z)
        return more.reshape(signal.shape)
