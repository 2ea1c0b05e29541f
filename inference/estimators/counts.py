"""Gradients of counts by what one more, or one fewer, would change.

    ∂ E f(z) / ∂λ = E [f(z + 1) − f(z)],                   z ~ Poisson(λ)
    ∂ E f(z) / ∂p = −E [(z + 1) (f(z + 1) − f(z))] / p,    z ~ Geometric(p), failures
    ∂ E f(z) / ∂p = n E [f(y + 1) − f(y)],                 y ~ Binomial(n − 1, p)

The first and third are weak derivatives, whose two halves are coupled (Pflug 1989; Heidergott &
Vázquez-Abad 2008); the first and second are −∂P(z ≤ k) / P(z = k), summed by parts (Cong et al.
2019, GO).  A y is z without one of its n trials, a success with probability z / n.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.estimators.ledger import (
    Choice,
    Ledger,
    read_ledger,
    refuse_coupled,
    signal_of,
    value_of,
)
from inference.estimators.marginal import one_at_a_time
from inference.estimators.programs import ModelAndGuide, replay_prefix
from inference.estimators.sitewise import OneByOne, Part
from inference.util.errors import UserError
from inference.util.sites import base, distribution_name


class CoupledDifference(OneByOne):
    """``Σ_d [f(z + e_d) − f(z)] ∇λ_d`` for each count d of a Poisson site; likewise for others.

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.tensor(0.0, requires_grad=True)
    >>> def model():
    ...     z = pyro.sample("z", dist.Poisson(1.0))
    ...     pyro.factor("cost", -2 * z)
    >>> guide = lambda: pyro.sample("z", dist.Poisson(w.exp()))
    >>> loss = CoupledDifference().differentiable_loss(model, guide)
    >>> round(torch.autograd.grad(loss, w)[0].item(), 4)  # ∂ (KL + 2 λ) = log λ + 2, no noise
    2.0

    Earlier sites keep their draws, later ones are drawn anew.  All elements of a site's plates
    count one more at once, as each has a signal of its own.  Unbiased; Poisson, Geometric and
    Binomial sites; a site of D counts costs D model evaluations.

    Raises:
        UserError: a site is none of these, nor reparameterised, or a later term outside of its
            plates may see several of their elements.
    """

    def one(self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide) -> Part:
        """The site's; a count that is one too many is no draw of the guide."""
        refuse_coupled(choice, main, type(self).__name__)
        inner, value = base(choice.fn), value_of(choice, trace)
        step, slope = self._step(choice.name, inner, value)
        f, surrogate = signal_of(choice, main), []
        own = inner.batch_shape[len(choice.fn.batch_shape) :]  # the counts of one element
        for number in one_at_a_time(own, f):
            run = programs.run(replay_prefix(trace, choice.name, value + step * number))
            gap = signal_of(choice, read_ledger([run])) - f
            surrogate.append((gap[(..., *(None,) * len(own))] * step * number * slope).sum())
        return Part(torch.stack(surrogate).sum())

    def _step(self, name: str, inner: Any, value: Tensor) -> tuple[Tensor, Tensor]:
        """(±1 or 0, slope): ``±[f(z ± 1) − f(z)] ∇slope`` is the gradient of E f(z)."""
        match distribution_name(inner):
            case "Poisson":
                return torch.ones_like(value), inner.rate
            case "Geometric":
                return torch.ones_like(value), -(value + 1) * inner.probs.log()
            case "Binomial":
                count = inner.total_count
                fewer = torch.rand_like(value) * count < value
                step = torch.where(fewer, -1.0, 1.0).to(value)
                return torch.minimum(step, count - value), count * inner.probs
            case kind:
                raise UserError(
                    f"{type(self).__name__} handles Poisson, Geometric and Binomial sites, but "
                    f"site {name!r} is a {kind}: use LeaveOneOut(num_particles=4)"
                )
