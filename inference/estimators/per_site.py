"""Another estimator for each site."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import nn

from inference.estimators.ledger import Choice, Ledger
from inference.estimators.programs import ModelAndGuide, StochasticFunction, TracePair
from inference.estimators.score_function import ScoreFunction
from inference.estimators.sitewise import Part, Sitewise
from inference.util.errors import UserError
from inference.util.sites import base

Rule = str | type  # a site's name, a pattern of names (z_*), or a class of distributions


class PerSite(Sitewise):
    """Each site's part by the estimator of the first rule that fits it; the rest by ``default``.

    >>> import pyro.distributions as dist
    >>> from inference.estimators import DisARM, LeaveOneOut, Marginal
    >>> rules = {"b": DisARM(), "z_*": Marginal(), dist.Normal: LeaveOneOut(4)}
    >>> PerSite(rules, default=LeaveOneOut(4)).unbiased
    True

    A rule for a reparameterised site makes it one without a path, estimated by its score; without
    a rule such sites stay pathwise.  Bound and pathwise gradient are means over the runs of all
    parts whose draws are the guide's.  Unbiased if all parts are.

    Args:
        rules: site, pattern of sites (as in file names) or class of distributions → estimator.
        default: of all other sites without a path; ``ScoreFunction()`` unless given.
        options: Pyro's; ``num_particles`` is the largest of the estimators'.

    Raises:
        UserError: an estimator takes a program whole (a bound of several particles, wake-sleep, a
            relaxation), or two want different numbers of particles.
    """

    def __init__(
        self, rules: Mapping[Rule, Sitewise], default: Sitewise | None = None, **options: Any
    ) -> None:
        default = default or ScoreFunction()
        every = [*rules.values(), default]
        super().__init__(_particles(every), **options)
        self.rules = list(rules)
        self.parts = nn.ModuleList(every)
        self.unbiased = all(estimator.unbiased for estimator in every)
        self.compares_particles = any(estimator.compares_particles for estimator in every)

    def part(
        self,
        choice: Choice,
        ledger: Ledger,
        draws: Sequence[TracePair],
        programs: ModelAndGuide,
    ) -> Part:
        """The part of the estimator that the site has."""
        ruled = self._rule(choice.name, choice.fn)
        chosen = self.parts[-1 if ruled is None else ruled]
        assert isinstance(chosen, Sitewise)
        return chosen.part(choice, ledger, draws, programs)

    def _programs(
        self, model: StochasticFunction, guide: StochasticFunction, args: Any, kwargs: Any
    ) -> ModelAndGuide:
        return super()._programs(model, guide, args, kwargs).inside(WithoutPath(self))

    def _rule(self, name: str, fn: Any) -> int | None:
        """Which rule fits the site, if any."""
        for i, rule in enumerate(self.rules):
            if isinstance(rule, str) and fnmatchcase(name, rule):
                return i
            if isinstance(rule, type) and isinstance(base(fn), rule):
                return i
        return None


class WithoutPath(Messenger):
    """Draws of sites that have a rule carry no gradient, as if they had no ``rsample``."""

    def __init__(self, rules: PerSite) -> None:
        super().__init__()
        self.ruled = rules._rule

    def _pyro_sample(self, message: Message[..., Any]) -> None:
        msg: Any = message
        if msg["is_observed"] or not getattr(msg["fn"], "has_rsample", False):
            return
        if self.ruled(msg["name"], msg["fn"]) is not None:
            msg["fn"] = without_path(msg["fn"])


def without_path(fn: Any) -> Any:
    """The distribution, of a class of its own, as ``expand`` forgets what only an object knows."""
    kind = type(fn)
    twin = copy.copy(fn)
    twin.__class__ = type(kind.__name__, (kind,), {"has_rsample": False})
    return twin


def _particles(estimators: Sequence[Any]) -> int:
    """The number of particles that all of them accept."""
    for estimator in estimators:
        if not isinstance(estimator, Sitewise):
            raise UserError(
                f"{type(estimator).__name__} takes a program whole, not a site: use "
                "LeaveOneOut(4), Marginal(), DisARM() or another that is a sum over sites"
            )
    wanted = {e.num_particles for e in estimators} - {1}
    if len(wanted) > 1:
        raise UserError(
            f"the estimators of PerSite have {sorted(wanted)} particles: give all of them the same"
        )
    return max(wanted, default=1)
