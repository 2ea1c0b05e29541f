"""The ELBO's named terms, read from the traces that an estimator has just scored anyway."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from torch import Tensor


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
        if inner := getattr(estimator, "_get_traces", None):

            def watched(*args: Any) -> Iterator[tuple[Trace, Trace]]:
                for pair in inner(*args):
                    self._pairs.append(pair)
                    yield pair

            self.estimator._get_traces = watched  # type: ignore[method-assign]

    def probe(self, loss: float) -> None:
        """Fix the names, if the terms of the last traces add up to ``-loss``."""
        try:
            terms = self._sums()
        except (KeyError, RuntimeError):  # a site that was enumerated has no sum
            terms = {}
        total = sum(v if name.startswith("log_likelihood") else -v for name, v in terms.items())
        if terms and abs(float(total) + loss) <= 1e-4 * (1 + abs(loss)):
            self.names = tuple(sorted(terms))
        self._pairs.clear()

    def take(self) -> list[Tensor]:
        """The terms since the last call, nats of the whole loss, in the order of ``names``."""
        terms = self._sums() if self.names else {}
        self._pairs.clear()
        return [torch.as_tensor(terms[name]) for name in self.names]

    def _sums(self) -> dict[str, Any]:
        sums: dict[str, Any] = {}
        for model_trace, guide_trace in self._pairs:
            auxiliary = any(
                site["type"] == "sample" and name not in model_trace
                for name, site in guide_trace.nodes.items()
            )
            for sign, trace in ((-1, model_trace), (1, guide_trace)):
                for name, site in trace.nodes.items():
                    if site["type"] == "sample":
                        latent = "latent" if auxiliary else name
                        self._add(sums, sign, name if site["is_observed"] else latent, site)
        return sums

    def _add(self, sums: dict[str, Any], sign: int, name: str, site: Any) -> None:
        log_prob = site["log_prob_sum"]
        log_prob = log_prob.detach() if isinstance(log_prob, Tensor) else log_prob
        if self.estimator.num_particles > 1:
            log_prob = log_prob / self.estimator.num_particles
        if site["is_observed"]:
            key, value = f"log_likelihood_{name}", log_prob
        else:
            key, value = f"kl_{name}", sign * log_prob
        sums[key] = sums[key] + value if key in sums else value
