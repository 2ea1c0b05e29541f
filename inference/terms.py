"""The ELBO's named terms, read from the traces that an estimator has just scored anyway."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.ops.provenance import detach_provenance
from pyro.poutine import Trace
from torch import Tensor

from inference.sites import sample_sites


class Terms:
    """Watches an estimator; after each loss, gives its terms without another evaluation.

    ``log_likelihood_x`` is the sampled E_q log p(x | z) of observed site x, and ``kl_z`` the
    sampled E_q [log q(z) − log p(z)] of latent site z; the ELBO is the sum of the former minus
    the sum of the latter.  Where the guide draws auxiliary sites (most autoguides), no latent has
    a KL of its own and the whole is ``kl_latent``.  An estimator whose value is no such sum
    (analytic KL, enumeration, multi-sample bounds) has no terms: its bound alone is recorded.

    Attributes:
        estimator: the watched copy of the estimator, to be used in its place.
        names: the terms' names, fixed by ``probe``.
    """

    def __init__(self, estimator: ELBO) -> None:
        self.estimator = copy.copy(estimator)
        self.names: tuple[str, ...] = ()
        self._pairs: list[tuple[Trace, Trace]] = []
        self._sites: list[tuple[int, str]] = []
        self._weights = torch.empty(0)
        if hasattr(estimator, "_get_traces"):
            inner = type(estimator)._get_traces.__get__(self.estimator)  # the copy's, not its own

            def watched(*args: Any) -> Iterator[tuple[Trace, Trace]]:
                for pair in inner(*args):
                    self._pairs.append(pair)
                    yield pair

            self.estimator._get_traces = watched  # type: ignore[method-assign]

    def probe(self, loss: Tensor) -> None:
        """Fix the names, if the terms of the last traces add up to ``-loss``."""
        keys = self._keys()
        self.names = tuple(sorted({key for _, _, key, _ in keys}))
        self._sites = [(side, site) for side, site, _, _ in keys]
        weights = torch.zeros(len(self.names), len(keys))
        for column, (_, _, key, sign) in enumerate(keys):
            weights[self.names.index(key), column] = sign / self.estimator.num_particles
        self._weights = weights.to(loss)
        signs = loss.new_tensor([1.0 if n.startswith("log_l") else -1.0 for n in self.names])
        if not keys or not torch.allclose(signs @ self.take(), -loss, rtol=1e-4, atol=1e-4):
            self.names = ()
        self._pairs.clear()

    def take(self) -> Tensor:
        """(len(names),) the terms since the last call, nats of the whole loss."""
        sums = [self._sums(pair) for pair in self._pairs] if self.names else []
        self._pairs.clear()
        return self._weights @ sum(sums[1:], sums[0]) if sums else self._weights.new_empty(0)

    def _sums(self, pair: tuple[Trace, Trace]) -> Tensor:
        sums = [pair[side].nodes[name]["log_prob_sum"] for side, name in self._sites]
        found = [detach_provenance(value) for value in sums]  # TraceGraph_ELBO's
        with torch.no_grad():
            return torch.stack([torch.as_tensor(value) for value in found]).to(self._weights)

    def _keys(self) -> list[tuple[int, str, str, float]]:
        """(side, site, term, sign of the site's log-probability in the term), sides as in pairs."""
        if not self._pairs:
            return []
        model_trace, guide_trace = self._pairs[0]
        auxiliary = any(name not in model_trace for name in sample_sites(guide_trace))
        keys = []
        for side, trace in enumerate((model_trace, guide_trace)):
            for name, site in sample_sites(trace).items():
                if "log_prob_sum" not in site:  # enumerated: it has no sum
                    return []
                latent = f"kl_{'latent' if auxiliary else name}"
                key = f"log_likelihood_{name}" if site["is_observed"] else latent
                keys.append((side, name, key, -1.0 if key == latent and side == 0 else 1.0))
        return keys
