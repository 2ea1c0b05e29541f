"""The base class of estimators: a ``pyro.infer.ELBO`` whose loss has a value and a gradient."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.infer.util import is_validation_enabled
from pyro.poutine.runtime import effectful
from pyro.util import check_if_enumerated
from torch import Tensor, nn

from inference.estimators.programs import (
    ModelAndGuide,
    StochasticFunction,
    TracePair,
    guide_is_prior,
    ordinary,
)


class Estimator(ELBO, nn.Module):
    """A bound and an estimator of its gradient, for unchanged Pyro programs.

    Usable as ``SVI(model, guide, optim, loss=estimator)``, as module ``estimator(model, guide)``,
    and in ``fit``.  State (a baseline, a learned temperature) is in its ``state_dict``.
    Learning signals (Pyro's ``downstream_cost``) are kept for each element of a site's plates:
    elements of a plate depend on each other only through latents outside of it.  Draw those first
    in the guide: the terms of all elements after one count in the signal of every earlier draw in
    the plate.
    A guide that draws from its model's prior declares that by an attribute ``prior_of``: both are
    then one run, in which log p(z) and log q(z) cancel.

    Writing an estimator:

    - Implement ``estimate``: read a ``Ledger`` from the traces, and return the bound, whose value
      is reported, and a surrogate, whose gradient is the estimate of the bound's.
    - Keep learning signals in their plates (``Ledger.signals``), and use no ``.item()`` and no
      Python branch on a tensor's value, so that a step can be captured as a graph.
    - Refuse what cannot be estimated by a ``UserError`` that names the site and what to use
      instead; add it to ``tests/inference/estimators/test_unbiased.py``.

    Args:
        num_particles: K, draws from the guide.
        vectorize_particles: draw them in one run, in a plate to the left of all others; for
            programs that accept leading dimensions.
        max_plate_nesting: number of nested plates; inferred unless given.

    Attributes:
        unbiased: whether the gradient is the bound's in expectation, whatever the program.
        compares_particles: whether all particles must see the same elements of a plate that draws
            its own subsample; else each draws one.
    """

    unbiased: bool = True
    compares_particles: bool = False

    def __init__(
        self,
        num_particles: int = 1,
        *,
        vectorize_particles: bool = False,
        max_plate_nesting: float = math.inf,
    ) -> None:
        nn.Module.__init__(self)
        ELBO.__init__(
            self,
            num_particles=num_particles,
            vectorize_particles=vectorize_particles,
            max_plate_nesting=max_plate_nesting,
        )

    @abstractmethod
    def estimate(
        self, programs: ModelAndGuide, draws: Sequence[TracePair]
    ) -> tuple[Tensor, Tensor]:
        """(bound, surrogate): scalars, nats of the whole loss.

        The bound's value is reported; the surrogate's gradient is the estimate of the bound's.

        Args:
            programs: for further runs, if the estimator needs any.
            draws: (model trace, guide trace) of all particles, or one pair for each.
        """

    def differentiable_loss(
        self, model: StochasticFunction, guide: StochasticFunction, *args: Any, **kwargs: Any
    ) -> Tensor:
        """−bound by value, its estimated gradient by ``backward()``."""
        for name, parameter in self.named_parameters():
            emit_param(parameter, name=f"{type(self).__name__}.{name}")
        draws = list(self._get_traces(model, guide, args, kwargs))
        bound, surrogate = self.estimate(self._programs(model, guide, args, kwargs), draws)
        return -(surrogate + (bound - surrogate).detach())

    def loss(
        self, model: StochasticFunction, guide: StochasticFunction, *args: Any, **kwargs: Any
    ) -> float:
        """−bound, without gradient."""
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(
        self, model: StochasticFunction, guide: StochasticFunction, *args: Any, **kwargs: Any
    ) -> float:
        """−bound; adds its gradient to the parameters."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    def draw(self, programs: ModelAndGuide) -> TracePair:
        """The traces of one particle, or of all of them where they are vectorised."""
        return programs.run()

    def _programs(
        self, model: StochasticFunction, guide: StochasticFunction, args: Any, kwargs: Any
    ) -> ModelAndGuide:
        is_prior = guide_is_prior(guide, model)
        guide = ordinary(guide)
        if self.vectorize_particles:
            if self.max_plate_nesting == math.inf:
                ELBO._guess_max_plate_nesting(self, model, guide, args, kwargs)
            model, guide = (ELBO._vectorized_num_particles(self, run) for run in (model, guide))
        return ModelAndGuide(model, guide, args, kwargs, is_prior=is_prior)

    def _get_traces(
        self, model: StochasticFunction, guide: StochasticFunction, args: Any, kwargs: Any
    ) -> Iterator[TracePair]:
        programs = whole = self._programs(model, guide, args, kwargs)
        for _ in range(1 if self.vectorize_particles else self.num_particles):
            model_trace, guide_trace = self.draw(programs)
            if is_validation_enabled():
                check_if_enumerated(guide_trace)  # warns, as Pyro does, that they are sampled
            if self.compares_particles:
                programs = whole.with_subsample_of((model_trace, guide_trace))
            yield model_trace, guide_trace

    def _get_trace(
        self, model: StochasticFunction, guide: StochasticFunction, args: Any, kwargs: Any
    ) -> TracePair:
        raise NotImplementedError  # Pyro's; ``draw`` replaces it


@effectful(type="param")
def _param_statement(parameter: Tensor) -> Tensor:
    value = parameter.view_as(parameter)
    value.unconstrained = lambda: parameter  # type: ignore[attr-defined]
    return value


def emit_param(parameter: Tensor, name: str) -> None:
    """Emit a ``param`` message, so that Pyro's SVI finds a parameter of the estimator."""
    _param_statement(parameter, name=name)
