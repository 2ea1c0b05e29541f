"""What every estimator is: a ``pyro.infer.ELBO`` whose loss has a value and a gradient."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message, effectful
from pyro.util import check_if_enumerated
from torch import Tensor, nn

from inference.estimators.matching import check_model_guide_match, check_site_shapes
from inference.util.sites import is_site, sample_sites

StochasticFunction = Callable[..., Any]
TracePair = tuple[Trace, Trace]


class Estimator(ELBO, nn.Module):
    """A bound and a way to its gradient, for unchanged Pyro programs.

    Usable as ``SVI(model, guide, optim, loss=estimator)``, as module ``estimator(model, guide)``,
    and in ``fit``.  State (a baseline, a learned temperature) is in its ``state_dict``.
    Signals are kept for each element of the plates that a site is in: a plate promises that its
    elements influence each other through latents outside of it alone.  Draw those first in the
    guide: after one, the terms of all elements are charged to every earlier draw in the plate.
    A guide that draws its model's own prior says so in its attribute ``prior_of``: the two are then
    one run, where log p(z) and log q(z) cancel.

    Args:
        num_particles: K, draws from the guide.
        vectorize_particles: draw them in one run, in a plate left of all others; needs programs
            that keep leading dimensions.
        max_plate_nesting: number of nested plates; guessed unless given.

    Attributes:
        unbiased: whether the gradient is the bound's in expectation, whatever the program.
    """

    unbiased: bool = True

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
            programs: to be run again, if the estimator needs that.
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
                self._guess_max_plate_nesting(model, guide, args, kwargs)
            model, guide = (self._vectorized_num_particles(program) for program in (model, guide))
        return ModelAndGuide(model, guide, args, kwargs, is_prior=is_prior)

    def _get_traces(
        self, model: StochasticFunction, guide: StochasticFunction, args: Any, kwargs: Any
    ) -> Iterator[TracePair]:
        programs = self._programs(model, guide, args, kwargs)
        for _ in range(1 if self.vectorize_particles else self.num_particles):
            yield self.draw(programs)

    def _get_trace(
        self, model: StochasticFunction, guide: StochasticFunction, args: Any, kwargs: Any
    ) -> TracePair:
        raise NotImplementedError  # Pyro's; ``draw`` is in its place


@dataclass(frozen=True)
class ModelAndGuide:
    """Model and guide (in the plate of particles, if there is one) with their arguments.

    Attributes:
        is_prior: whether the guide is the model, its observations hidden.
    """

    model: StochasticFunction
    guide: StochasticFunction
    args: Any
    kwargs: Any
    nesting: float = math.inf
    is_prior: bool = False

    def run(self, start: Trace | None = None, around: Messenger | None = None) -> TracePair:
        """(model trace, guide trace), scored.

        Args:
            start: draws that the guide repeats; sites that it lacks are drawn anew.
            around: a handler around both programs.
        """
        wrap = around or (lambda program: program)
        if self.is_prior:
            model = self.model if start is None else poutine.replay(self.model, trace=start)
            return prior_as_guide(self.score(wrap(model)))
        guide = self.guide if start is None else poutine.replay(self.guide, trace=start)
        guide_trace = self.trace(wrap(guide))
        model_trace = self.trace(wrap(poutine.replay(self.model, trace=guide_trace)))
        if is_validation_enabled():  # before log p, which a value of the wrong shape may not have
            check_model_guide_match(model_trace, guide_trace, self.nesting)
            check_if_enumerated(guide_trace)
        return self.scored(model_trace), self.scored(guide_trace)

    def score(self, program: StochasticFunction) -> Trace:
        """The trace of one run with the log-probability of each site."""
        return self.scored(self.trace(program))

    def trace(self, program: StochasticFunction) -> Trace:
        """The trace of one run."""
        return poutine.trace(program).get_trace(*self.args, **self.kwargs)

    def scored(self, trace: Trace) -> Trace:
        """The trace, with the log-probability of each site from now on."""
        trace.compute_log_prob(site_filter=lambda name, site: is_site(site))
        if is_validation_enabled():
            check_site_shapes(trace, self.nesting)
        return trace


def guide_is_prior(guide: StochasticFunction, model: StochasticFunction) -> bool:
    """Whether the guide says, by its ``prior_of``, that it draws this model's prior."""
    return bool(getattr(guide, "prior_of", None) == model)  # bound methods are equal, not the same


def ordinary(guide: StochasticFunction) -> StochasticFunction:
    """The guide as a function that draws its latents and no more.

    A ``GuideMessenger`` runs its model and shows the observed sites, too, which are no draws.
    """
    if isinstance(poutine.unwrap(guide), GuideMessenger):
        return poutine.block(guide, hide_fn=_observed)
    return guide


def _observed(message: Message) -> bool:
    return message["type"] == "sample" and message["is_observed"]


def prior_as_guide(trace: Trace) -> TracePair:
    """(a model's scored trace, the same without its observed sites as the trace of the guide).

    The log-probability of each latent is one tensor in both, by which a ``Ledger`` knows the prior.
    """
    latents = trace.copy()
    for name, site in sample_sites(trace).items():
        if site["is_observed"]:
            latents.remove_node(name)
    return trace, latents


def detached(trace: Trace) -> Trace:
    """The trace with its values cut from the graph: replayed, gradients reach parameters alone."""
    fixed = trace.copy()
    for name, node in trace.nodes.items():
        if node["type"] == "sample":
            fixed.nodes[name] = with_value(node, node["value"].detach())  # type: ignore[union-attr]
    return fixed


def with_value(node: Any, value: Tensor) -> Any:
    """A trace's node with another value; the old one stays as it is."""
    return {**node, "value": value}


def replay_prefix(trace: Trace, name: str, value: Tensor) -> Trace:
    """The draws before site ``name``, and ``value`` there: replayed, later sites draw anew."""
    partial, names = trace.copy(), list(trace.nodes)
    for later in names[names.index(name) + 1 :]:
        if is_site(trace.nodes[later]):
            partial.nodes.pop(later)
    partial.nodes[name] = with_value(trace.nodes[name], value)
    return partial


@effectful(type="param")
def _param_statement(parameter: Tensor) -> Tensor:
    value: Any = parameter.view_as(parameter)
    value.unconstrained = lambda: parameter
    return value


def emit_param(parameter: Tensor, name: str) -> None:
    """Let Pyro's SVI see a parameter that lives in the estimator, not in its store."""
    _param_statement(parameter, name=name)
