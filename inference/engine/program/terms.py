"""The ELBO's named terms, read from the traces that an estimator has scored."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.ops.provenance import detach_provenance
from pyro.poutine import Trace
from torch import Tensor

from inference.util.sites import sample_sites


class Terms:
    """Wraps an estimator to record, with each loss, the ELBO's terms at no further evaluation.

    ``log_likelihood_x`` is the sampled E_q log p(x | z) of observed site x, and ``kl_z`` the
    sampled E_q [log q(z) − log p(z)] of latent site z; the ELBO is the sum of the former minus
    the sum of the latter.  Sites numbered z_0, z_1, … are steps of one sequence, as long as each
    batch makes it, and have one term between them.  Where the guide has auxiliary sites (most
    autoguides, or a ``pyro.factor``), no latent has a KL of its own and the whole is
    ``kl_latent``.  An estimator whose value is no such sum (analytic KL, enumeration, multi-sample
    bounds) has no terms: its bound alone is recorded.

    Attributes:
        estimator: a copy of the estimator that records its traces, to be used in its place.
        names: the terms' names, fixed by ``probe``.
    """

    def __init__(self, estimator: ELBO) -> None:
        self.estimator = copy.copy(estimator)
        self.names: tuple[str, ...] = ()
        self._pairs: list[tuple[Trace, Trace]] = []
        if hasattr(estimator, "_get_traces"):
            inner = type(estimator)._get_traces.__get__(self.estimator)  # set on the copy alone

            def watched(*args: Any) -> Iterator[tuple[Trace, Trace]]:
                for pair in inner(*args):
                    self._pairs.append(pair)
                    yield pair

            self.estimator._get_traces = watched  # type: ignore[method-assign]

    def probe(self, loss: Tensor) -> None:
        """Set ``names``, if the terms of the last traces add up to ``-loss``."""
        self.names = tuple(sorted({key for pair in self._pairs for key, _, _ in _summands(pair)}))
        signs = loss.new_tensor([1.0 if n.startswith("log_l") else -1.0 for n in self.names])
        found = self.take().to(loss)
        if not self.names or not torch.allclose(signs @ found, -loss, rtol=1e-4, atol=1e-4):
            self.names = ()

    def take(self) -> Tensor:
        """(len(names),) the terms since the last call, nats of the whole loss."""
        with torch.no_grad():
            summands = [s for pair in self._pairs for s in _summands(pair)]
            self._pairs.clear()
            if not (summands and self.names):
                return torch.empty(0)
            nothing = torch.zeros_like(summands[0][1])
            totals = dict.fromkeys(self.names, nothing)  # of sites that are absent
            for key, value, sign in summands:
                if key in totals:
                    totals[key] = totals[key] + value if sign > 0 else totals[key] - value
            return torch.stack(list(totals.values())) / self.estimator.num_particles


def _summands(pair: tuple[Trace, Trace]) -> list[tuple[str, Tensor, float]]:
    """(term, a site's log-probability, its sign in the term); none if a site is enumerated."""
    sides = [sample_sites(trace) for trace in pair]
    if any("log_prob_sum" not in site for sites in sides for site in sites.values()):
        return []
    auxiliary = any(name not in sides[0] for name in sides[1])
    found = []
    for side, sites in enumerate(sides):
        for name, site in sites.items():
            step = _sequence(name)
            latent = f"kl_{'latent' if auxiliary else step}"
            key = f"log_likelihood_{step}" if site["is_observed"] and side == 0 else latent
            value = torch.as_tensor(detach_provenance(site["log_prob_sum"]))  # TraceGraph_ELBO's
            found.append((key, value, -1.0 if key == latent and side == 0 else 1.0))
    return found


def _sequence(name: str) -> str:
    """``z`` for ``z_12``."""
    stem, _, number = name.rpartition("_")
    return stem if stem and number.isdigit() else name
