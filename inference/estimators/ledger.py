"""The log-probabilities of model and guide traces, with their plates and order in time.

All estimators use it.  Tensors have full rank (K, plates …): K particles, then one dimension for
each level of plates (length 1 where a site is outside), so that sites of different plates broadcast
against each other.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.util.errors import UserError
from inference.util.sites import distribution_name, is_factor, sample_sites, unmasked

PARTICLES = "num_particles_vectorized"  # the plate of particles that Pyro's ELBO makes


@dataclass(frozen=True)
class Term:
    """One summand of the ELBO: log p of a model site, or −log q of a guide site.

    Attributes:
        name: the site.
        value: (K, plates …) nats, scaled and masked, with the sign it has in the ELBO.
        plates: name → dimension.
        time: the last latent, in the guide's order, that it can depend on (−1: none).
        of_guide: whether it is a −log q.
    """

    name: str
    value: Tensor
    plates: Mapping[str, int]
    time: int
    of_guide: bool


@dataclass(frozen=True)
class Choice:
    """A latent site as the guide drew it; or a ``pyro.factor`` of the guide.

    Such a factor stands for log q of what the guide draws outside of Pyro, before or after: it is
    the first in time, so that every term is charged to it.

    Attributes:
        name: the site.
        score: (K, plates …) log q of the draw as it was drawn: neither scaled nor masked.
        reparameterised: whether gradients pass through the draw.
        plates: name → dimension.
        time: its position among the guide's latents.
        fn: its distribution, in the first particle's trace.
        from_prior: whether log p and log q of the draw are the same site, as the guide is the
            prior.
        is_factor: whether it is a ``pyro.factor``.
    """

    name: str
    score: Tensor
    reparameterised: bool
    plates: Mapping[str, int]
    time: int
    fn: Any
    from_prior: bool
    is_factor: bool

    def in_batch(self, value: Tensor) -> Tensor:
        """A (K, plates …) value in the batch shape of the site's distribution."""
        batch = len(self.fn.batch_shape)
        return value.reshape(value.shape[value.dim() - batch :])

    def beside_events(self, value: Tensor) -> Tensor:
        """A (batch …) value as (batch …, 1 …), to stand beside each number of the site's events."""
        return value[(..., *(None,) * self.fn.event_dim)]


@dataclass(frozen=True)
class Ledger:
    """Terms and choices of K particles.

    Attributes:
        terms: the ELBO's summands.
        choices: the latents in the guide's order.
        subsampled: plate → N/B, for plates that subsample B of their N elements.
    """

    terms: Sequence[Term]
    choices: Sequence[Choice]
    subsampled: Mapping[str, float]

    def elbo(self, of_guide: bool | None = None) -> Tensor:
        """(K,) log p(x, z) − log q(z), nats, summed over plates; or log p, or −log q, alone."""
        kept = [t for t in self.terms if of_guide is None or t.of_guide == of_guide]
        return self._total(kept)

    def pathwise(self) -> Tensor:
        """(K,) ``elbo`` without the −log q of draws that are not reparameterised.

        The gradients differ by ∇log q, of mean 0.  Where the guide is the prior, log p − log q of a
        draw is 0, so +log p is left out, too: alone, it would be noise of mean 0.  Kept, it would
        add 1 to every signal, a baseline of −1: that helps a bare score function where signals are
        below −½ on average, as log-likelihoods in nats often are, and undoes every fitted baseline.
        """
        non_reparameterised = {c.name for c in self.non_reparameterised()}
        from_prior = {c.name for c in self.choices if c.from_prior}
        kept = (t for t in self.terms if not (t.of_guide and t.name in non_reparameterised))
        return self._total([t for t in kept if t.name not in from_prior])

    def _total(self, terms: Sequence[Term]) -> Tensor:
        return sum((per_particle(t.value) for t in terms), self.zeros())

    def zeros(self) -> Tensor:
        """(K,) zeros; (1,) if model and guide have no site at all."""
        if not self.terms:
            return torch.zeros(1)
        return self.terms[0].value.new_zeros(len(self.terms[0].value))

    def non_reparameterised(self) -> list[Choice]:
        """The choices that are not reparameterised."""
        return [c for c in self.choices if not c.reparameterised]

    @functools.cached_property
    def learning_signals(self) -> dict[str, Tensor]:
        """``signals`` of all choices that are not reparameterised."""
        return self.signals({choice.name for choice in self.non_reparameterised()})

    def signals(self, wanted: Container[str], detach: bool = True) -> dict[str, Tensor]:
        """The learning signal of each choice: the sum of terms at or after it, its plates kept.

        Reward-to-go, in one pass backward in time.  Earlier terms do not depend on the choice, so
        leaving them out reduces variance and keeps the expectation; nor do terms of other elements
        of its plates, unless a later choice outside of the plate depends on it: then they are
        included, too.

        Returns:
            name → (K, plates …) for the ``wanted``; without graph unless ``detach`` is False.
        """
        due = defaultdict(list)
        for term in self.terms:
            due[term.time].append(term)
        running: dict[tuple[tuple[str, int], ...], Tensor] = {}
        found = {}
        for choice in reversed(self.choices):
            for term in due[choice.time]:
                plates = tuple(sorted(term.plates.items()))
                value = term.value.detach() if detach else term.value
                running[plates] = running[plates] + value if plates in running else value
            if choice.name in wanted:
                parts = [keep_plates(total, dict(p), choice.plates) for p, total in running.items()]
                found[choice.name] = sum(parts[1:], parts[0])
            running = _for_earlier_choices(running, choice.plates)
        return found

    def only(self, names: Container[str]) -> Ledger:
        """The terms and choices of these sites."""
        return replace(
            self,
            terms=[t for t in self.terms if t.name in names],
            choices=[c for c in self.choices if c.name in names],
        )

    def require_reparameterised(self, estimator: str, instead: str) -> None:
        """Raise a ``UserError`` if any choice is not reparameterised."""
        for choice in self.non_reparameterised():
            kind = "factor without rsample" if choice.is_factor else distribution_name(choice.fn)
            raise UserError(
                f"{estimator} needs reparameterised sites, but site {choice.name!r} is a "
                f"{kind}: use {instead}"
            )

    def refuse_factors(self, estimator: str, instead: str) -> None:
        """Raise a ``UserError`` if the guide has a ``pyro.factor``.

        To be called where the guide runs again at the same draws: what a factor stands for is drawn
        outside of Pyro, and would be drawn anew.
        """
        for choice in self.choices:
            if choice.is_factor:
                raise UserError(
                    f"{estimator} runs the guide again at the same draws, but site {choice.name!r} "
                    "is a pyro.factor of the guide, for something that is no site and cannot be "
                    f"repeated: draw it by pyro.sample, or use {instead}"
                )


def signal_of(choice: Choice, ledger: Ledger) -> Tensor:
    """The choice's learning signal in a run, in the batch shape of its distribution."""
    return choice.in_batch(ledger.signals({choice.name})[choice.name])


def refuse_coupled(choice: Choice, ledger: Ledger, estimator: str) -> None:
    """Raise a ``UserError`` if a later term may see several elements of the choice's plates.

    To be called where all elements move at once, each for itself.
    """
    for term in ledger.terms:
        outside = set(choice.plates) - set(term.plates)
        if term.time >= choice.time and outside:
            raise UserError(
                f"{estimator} moves all elements of site {choice.name!r} at once, but site "
                f"{term.name!r}, outside of plate {min(outside)!r}, may see several of them: use "
                "LeaveOneOut(num_particles=4)"
            )


def value_of(choice: Choice, trace: Trace) -> Tensor:
    """The draw of a choice in the guide's trace."""
    value: Any = trace.nodes[choice.name]["value"]
    return torch.as_tensor(value)


def per_particle(value: Tensor) -> Tensor:
    """(K,) the sum of a (K, plates …) value over plates."""
    return value.reshape(len(value), -1).sum(1)


def _for_earlier_choices(
    running: Mapping[tuple[tuple[str, int], ...], Tensor], plates: Mapping[str, int]
) -> dict[tuple[tuple[str, int], ...], Tensor]:
    """Totals for the choices before one in ``plates``: what comes after it may depend, through
    it, on every element of the other plates, so these are summed."""
    gathered: dict[tuple[tuple[str, int], ...], Tensor] = {}
    for key, total in running.items():
        kept = tuple(item for item in key if item[0] in plates)
        value = keep_plates(total, dict(key), plates)
        gathered[kept] = gathered[kept] + value if kept in gathered else value
    return gathered


def keep_plates(value: Tensor, plates: Mapping[str, int], kept: Iterable[str]) -> Tensor:
    """Sum ``value`` over those of its plates that are not ``kept``; the rank stays."""
    gone = [dim for name, dim in plates.items() if name not in kept]
    return value.sum(gone, keepdim=True) if gone else value


def read_ledger(pairs: Sequence[tuple[Trace, Trace]]) -> Ledger:
    """The ledger of (model trace, guide trace) pairs, already scored.

    One pair with a vectorised plate of particles, or one pair for each particle; several pairs
    must have the same sites.

    Raises:
        UserError: a latent of the model is not in the guide, or particles differ in their sites.
    """
    ledgers = [_read_one(*pair) for pair in pairs]
    return ledgers[0] if len(ledgers) == 1 else _stack(ledgers)


def _read_one(model_trace: Trace, guide_trace: Trace) -> Ledger:
    model, guide = sample_sites(model_trace), sample_sites(guide_trace)
    factors = [name for name, site in guide.items() if is_factor(site)]
    latents = factors + [name for name, site in guide.items() if not site["is_observed"]]
    times = {name: i for i, name in enumerate(latents)}
    rank = max(
        (-d for s in (*model.values(), *guide.values()) for d in all_dims(s).values()), default=0
    )
    vectorised = any(_is_in(s, PARTICLES) for s in (*model.values(), *guide.values()))
    rank -= vectorised
    terms, now = [], -1
    for name, site in model.items():
        if not site["is_observed"] and name not in times:
            raise UserError(f"latent site {name!r} of the model is not in the guide: draw it there")
        now = max(now, times.get(name, -1))
        value = _full_rank(site["log_prob"], rank)
        terms.append(Term(name, value, _plates(site), now, False))
    choices, now = [], -1
    for name, site in guide.items():
        plates = _plates(site)
        now = max(now, times.get(name, now))
        terms.append(Term(name, -_full_rank(site["log_prob"], rank), plates, now, True))
        if name in times:
            choices.append(
                Choice(
                    name=name,
                    score=_full_rank(_log_q_of_draw(site), rank),
                    reparameterised=_is_reparameterised(site),
                    plates=plates,
                    time=times[name],
                    fn=site["fn"],
                    from_prior=model.get(name) is site,
                    is_factor=is_factor(site),
                )
            )
    choices.sort(key=lambda choice: choice.time)
    return Ledger(terms, choices, _subsampled((*model.values(), *guide.values())))


def _stack(ledgers: Sequence[Ledger]) -> Ledger:
    """One ledger of all particles."""
    names = [[(t.name, t.of_guide) for t in ledger.terms] for ledger in ledgers]
    if any(n != names[0] for n in names):
        odd = {site for other in names for site in set(other) ^ set(names[0])}
        raise UserError(
            f"site {min(odd)[0]!r} is in some particles and not in others: with several particles "
            "this estimator needs the same sites in each"
        )
    terms = [
        replace(same[0], value=torch.cat([t.value for t in same]))
        for same in zip(*(ledger.terms for ledger in ledgers), strict=True)
    ]
    choices = [
        replace(same[0], score=torch.cat([c.score for c in same]))
        for same in zip(*(ledger.choices for ledger in ledgers), strict=True)
    ]
    return replace(ledgers[0], terms=terms, choices=choices)


def _log_q_of_draw(site: Any) -> Tensor:
    """log q of the draw without scale and masks: later terms may depend on a masked draw."""
    drawn = unmasked(site["fn"])
    as_is = drawn is site["fn"]
    score: Tensor = site["unscaled_log_prob"] if as_is else drawn.log_prob(site["value"])
    return score


def _is_reparameterised(site: Any) -> bool:
    return bool(getattr(site["fn"], "has_rsample", False))


def all_dims(site: Any) -> dict[str, int]:
    """Plate → dimension, of all vectorised plates around the site."""
    return {f.name: f.dim for f in site["cond_indep_stack"] if f.vectorized}


def _is_in(site: Any, plate: str) -> bool:
    return any(f.name == plate for f in site["cond_indep_stack"])


def _plates(site: Any) -> dict[str, int]:
    frames = site["cond_indep_stack"]
    return {f.name: f.dim for f in frames if f.vectorized and f.name != PARTICLES}


def _subsampled(sites: Iterable[Any]) -> dict[str, float]:
    frames = {f.name: f for site in sites for f in site["cond_indep_stack"] if f.vectorized}
    shares = {n: f.full_size / f.size for n, f in frames.items() if f.full_size}
    return {n: share for n, share in shares.items() if not math.isclose(share, 1)}


def _full_rank(log_prob: Tensor, rank: int) -> Tensor:
    """(K, plates …) at this rank; K = 1 where the trace is of one particle."""
    return log_prob.reshape((1,) * (rank + 1 - log_prob.dim()) + log_prob.shape)
