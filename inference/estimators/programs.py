"""Model and guide, run together to the traces that estimators use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pyro import poutine
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.util import check_site_shape
from torch import Tensor

from inference.estimators.matching import check_model_guide_match, check_site_shapes
from inference.util.sites import is_site, sample_sites

StochasticFunction = Callable[..., Any]  # a model or a guide, in Pyro's words
TracePair = tuple[Trace, Trace]  # of the model, of the guide


@dataclass(frozen=True)
class ModelAndGuide:
    """Model and guide with their arguments, in the plate of particles, if there is one.

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
            start: draws to replay in the guide; sites that are not in it are drawn.
            around: a handler around both programs.
        """
        wrap = around or (lambda program: program)
        if self.is_prior:
            model = self.model if start is None else poutine.replay(self.model, trace=start)
            return prior_as_guide(self._checked(self._trace(wrap(model))))
        guide = self.guide if start is None else poutine.replay(self.guide, trace=start)
        guide_trace = self._trace(wrap(guide))
        model_trace = self._trace(wrap(poutine.replay(self.model, trace=guide_trace)))
        if is_validation_enabled():  # before log p, which fails for a value of the wrong shape
            check_model_guide_match(model_trace, guide_trace, self.nesting)
        return self._checked(model_trace), self._checked(guide_trace)

    def inside(self, handler: Messenger) -> ModelAndGuide:
        """The same, with both programs always run in a handler."""
        return replace(self, model=handler(self.model), guide=handler(self.guide))

    def with_subsample_of(self, pair: TracePair) -> ModelAndGuide:
        """The same, its plates that subsample showing the elements that they show in the pair."""
        shown = Trace()
        for trace in pair:
            for name, node in trace.nodes.items():
                if node["type"] == "sample" and not is_site(node) and name not in shown:
                    shown.add_node(name, **node)
        if not shown.nodes:
            return self
        model, guide = (poutine.replay(run, trace=shown) for run in (self.model, self.guide))
        return replace(self, model=model, guide=guide)

    def score(self, program: StochasticFunction) -> Trace:
        """The trace of one run with the log-probability of each site.

        Raises:
            ValueError: Pyro's, a site's batch shape is not that of the plates around it.
        """
        trace = with_log_probs(self._trace(program))
        if is_validation_enabled():
            for site in sample_sites(trace).values():
                check_site_shape(site, self.nesting)  # type: ignore[arg-type]
        return trace

    def _trace(self, program: StochasticFunction) -> Trace:
        return poutine.trace(program).get_trace(*self.args, **self.kwargs)

    def _checked(self, trace: Trace) -> Trace:
        with_log_probs(trace)
        if is_validation_enabled():
            check_site_shapes(trace, self.nesting)
        return trace


def with_log_probs(trace: Trace) -> Trace:
    """Add ``log_prob`` to the trace's sites, in place; returns the trace."""
    trace.compute_log_prob(site_filter=lambda name, site: is_site(site))
    return trace


def guide_is_prior(guide: StochasticFunction, model: StochasticFunction) -> bool:
    """Whether the guide declares, by ``prior_of``, that it draws from this model's prior."""
    return bool(getattr(guide, "prior_of", None) == model)  # ==, as bound methods are not identical


def ordinary(guide: StochasticFunction) -> StochasticFunction:
    """The guide as a function that draws only its latents.

    A ``GuideMessenger`` runs its model, so that its trace has the observed sites, too.
    """
    if isinstance(poutine.unwrap(guide), GuideMessenger):
        return poutine.block(guide, hide_fn=_observed)
    return guide


def _observed(message: Message[..., Any]) -> bool:
    return message["type"] == "sample" and bool(message["is_observed"])


def prior_as_guide(trace: Trace) -> TracePair:
    """(a model's scored trace, the trace without observed sites, as the guide's).

    Both share each latent's node, by which ``Ledger`` recognises the prior.  (Not by its tensor: a
    capture that shares results makes one tensor of any two that are computed alike.)
    """
    latents = trace.copy()
    for name, site in sample_sites(trace).items():
        if site["is_observed"]:
            latents.remove_node(name)
    return trace, latents


def detached(trace: Trace) -> Trace:
    """The trace with detached values: in a replay, gradients reach parameters alone."""
    fixed = trace.copy()
    for name, node in trace.nodes.items():
        if node["type"] == "sample":
            fixed.nodes[name] = with_value(node, node["value"].detach())  # type: ignore[union-attr]
    return fixed


def with_value(node: Any, value: Tensor) -> Any:
    """A copy of a trace's node with another value."""
    return {**node, "value": value}


def replay_prefix(trace: Trace, name: str, value: Tensor) -> Trace:
    """The draws before site ``name``, and ``value`` there: in a replay, later sites are redrawn."""
    partial, names = trace.copy(), list(trace.nodes)
    for later in names[names.index(name) + 1 :]:
        if is_site(trace.nodes[later]):
            partial.nodes.pop(later)
    partial.nodes[name] = with_value(trace.nodes[name], value)
    return partial
