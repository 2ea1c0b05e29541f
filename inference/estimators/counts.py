"""Gradients of counts by what one more would change.

    ∂ E f(z) / ∂ log λ = λ E [f(z + 1) − f(z)],   z ~ Poisson(λ)

As the probabilities of a Poisson distribution satisfy ∂p(z) / ∂λ = p(z − 1) − p(z): a weak
derivative, whose two halves are coupled (Pflug 1989; Heidergott & Vázquez-Abad 2008).
"""

from __future__ import annotations

import torch
from pyro.poutine import Trace

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
    """``Σ_d [f(z + e_d) − f(z)] ∇λ_d`` for each count d of a Poisson site.

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
    count one more at once, as each has a signal of its own.  Unbiased; a site of D counts costs D
    model evaluations.

    Raises:
        UserError: a site is neither Poisson nor reparameterised, or a later term outside of its
            plates may see several of their elements.
    """

    def one(self, choice: Choice, main: Ledger, trace: Trace, programs: ModelAndGuide) -> Part:
        """The site's; a count that is one too many is no draw of the guide."""
        if (kind := distribution_name(choice.fn)) != "Poisson":
            raise UserError(
                f"{type(self).__name__} handles Poisson sites, but site {choice.name!r} is a "
                f"{kind}: use LeaveOneOut(num_particles=4)"
            )
        refuse_coupled(choice, main, type(self).__name__)
        rate, value = base(choice.fn).rate, value_of(choice, trace)
        f, surrogate = signal_of(choice, main), []
        own = rate.shape[len(choice.fn.batch_shape) :]  # the counts of one element
        for number in one_at_a_time(own, f):
            run = programs.run(replay_prefix(trace, choice.name, value + number))
            gap = signal_of(choice, read_ledger([run])) - f
            surrogate.append((gap[(..., *(None,) * len(own))] * number * rate).sum())
        return Part(torch.stack(surrogate).sum())
