"""Pyro's own ELBOs with the ``differentiable_loss`` that some of them lack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, TraceGraph_ELBO
from pyro.poutine import Trace
from torch import Tensor, nn

from inference.estimators.base import Estimator, emit_param
from inference.estimators.programs import ModelAndGuide, StochasticFunction, TracePair
from inference.util.sites import is_site


class Wrapped(Estimator):
    """One of Pyro's ELBOs, with the interface of an ``Estimator``.

    ``TraceGraph_ELBO``, ``RenyiELBO`` and ``ReweightedWakeSleep`` know only ``loss_and_grads``,
    which adds to ``.grad``; here that gradient g becomes the gradient of a scalar, ``Σ g · p`` over
    the parameters p.  Formulas and faults are Pyro's.

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.nn.Parameter(torch.tensor(0.3))
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(0.5))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=pyro.param("w", w)))
    >>> loss = Wrapped(TraceGraph_ELBO()).differentiable_loss(model, guide)
    >>> loss.backward()  # TraceGraph_ELBO itself has no differentiable_loss

    Args:
        elbo: Pyro's.
    """

    unbiased = False  # not known

    def __init__(self, elbo: ELBO) -> None:
        super().__init__(
            elbo.num_particles,
            vectorize_particles=elbo.vectorize_particles,
            max_plate_nesting=elbo.max_plate_nesting,
        )
        self.elbo: Any = elbo

    def differentiable_loss(
        self, model: StochasticFunction, guide: StochasticFunction, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The wrapped loss, with the wrapped gradient."""
        if not torch.is_grad_enabled():
            loss = self.elbo.loss(model, guide, *args, **kwargs)
            return torch.as_tensor(loss[0] if isinstance(loss, tuple) else loss)
        known = parameters_of(model, guide)
        put_aside = {leaf: leaf.grad for leaf in known}
        for leaf in known:
            leaf.grad = None
        with poutine.trace(param_only=True) as capture:
            loss = self.elbo.loss_and_grads(with_params(model, known), guide, *args, **kwargs)
        loss = loss[0] if isinstance(loss, tuple) else loss  # wake-sleep: the model's
        surrogate = torch.zeros(())
        for leaf in {**put_aside, **dict.fromkeys(params_in_trace(capture.trace))}:
            if leaf.grad is not None:
                surrogate = surrogate + (leaf.grad.detach() * leaf).sum()
            leaf.grad = put_aside.get(leaf)
        return surrogate + (torch.as_tensor(loss).to(surrogate) - surrogate).detach()

    def estimate(
        self, programs: ModelAndGuide, draws: Sequence[TracePair]
    ) -> tuple[Tensor, Tensor]:
        """Not used: the wrapped ELBO draws for itself."""
        raise NotImplementedError


class DecayingAverage(TraceGraph_ELBO):
    """``TraceGraph_ELBO`` with its decaying-average baseline at every discrete site.

    >>> import pyro, pyro.distributions as dist, torch
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(0.5))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=pyro.param("w", torch.tensor(0.0))))
    >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), loss=DecayingAverage())
    >>> abs(svi.step())  # guide and model agree: the ELBO is 0
    0.0
    """

    def _get_trace(
        self, model: StochasticFunction, guide: StochasticFunction, args: Any, kwargs: Any
    ) -> TracePair:
        configured = poutine.infer_config(guide, config_fn=_averaged)
        pair: TracePair = TraceGraph_ELBO._get_trace(self, model, configured, args, kwargs)
        return pair


def _averaged(site: Any) -> Any:
    non_reparameterised = is_site(site) and not site["is_observed"] and not site["fn"].has_rsample
    return {"baseline": {"use_decaying_avg_baseline": True}} if non_reparameterised else {}


def parameters_of(model: StochasticFunction, guide: StochasticFunction) -> list[Tensor]:
    """The parameters of modules, and those in Pyro's store so far."""
    modules = [program for program in (model, guide) if isinstance(program, nn.Module)]
    own = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [*own, *pyro.get_param_store()._params.values()]


def with_params(model: StochasticFunction, known: Sequence[Tensor]) -> StochasticFunction:
    """The model with ``param`` sites of all parameters: RenyiELBO takes no gradient without one."""

    def announced(*args: Any, **kwargs: Any) -> Any:
        for i, leaf in enumerate(known):
            emit_param(leaf, name=f"known {i}")
        return model(*args, **kwargs)

    return announced


def params_in_trace(trace: Trace) -> list[Tensor]:
    """The leaves of a trace's ``pyro.param`` sites."""
    values: list[Any] = [site["value"] for site in trace.nodes.values()]
    return [value.unconstrained() if hasattr(value, "unconstrained") else value for value in values]
