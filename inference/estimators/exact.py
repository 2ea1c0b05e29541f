"""The ELBO summed over every value of every latent, hence its exact gradient.

The sum is computed in two ways.  The reference runs the program once for each assignment of values
to the latents.  The fast way runs it once for all of them, each latent's values along a dimension
of its own; it is correct for programs that treat leading dimensions as a batch (``z.sum(-1)``, not
``z.sum()``), so it is compared with the reference before it is used.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from inference.estimators.base import Estimator
from inference.estimators.ledger import all_dims
from inference.estimators.programs import ModelAndGuide, StochasticFunction, TracePair
from inference.util import rng
from inference.util.errors import UserError
from inference.util.sites import (
    base,
    distribution_name,
    is_factor,
    is_site,
    sample_sites,
    unmasked,
)

LARGEST = 10_000_000  # entries of the table of all values
MOST_RUNS = 2_048  # assignments that are run one by one
COMPARED = 16  # assignments at which the table is compared with runs of one assignment each
VALUES = "values"  # key in a site's ``infer``: which of its values the trace holds

Reason = str
_compared: WeakKeyDictionary[Any, WeakKeyDictionary[Any, dict[Any, Reason | None]]]
_compared = WeakKeyDictionary()  # model → guide → shapes of the arguments → what differed


class Exact(Estimator):
    """``Σ_z q(z) [log p(x, z) − log q(z)]``: no noise, exponential cost; for reference.

    Every Bernoulli, categorical and one-hot site is enumerated; every Normal of one number is
    integrated by Gauss–Hermite quadrature (exact for polynomials of degree below twice the number
    of nodes); a Delta is a single value.  All values are run at once if that gives the same
    log-probabilities as runs of one assignment each, which is tested at the first use of a program
    (at all assignments, or at 16 of them); else one by one, if there are at most 2,048.

    >>> import pyro, pyro.distributions as dist, torch
    >>> w = torch.tensor(0.0, requires_grad=True)
    >>> model = lambda: pyro.sample("b", dist.Bernoulli(0.2))
    >>> guide = lambda: pyro.sample("b", dist.Bernoulli(logits=w))
    >>> loss = Exact().differentiable_loss(model, guide)  # KL(½ ‖ 0.2) = ½ log(.25 / .16)
    >>> round(loss.item(), 4), round(torch.autograd.grad(loss, w)[0].item(), 4)
    (0.2231, 0.3466)

    Args:
        nodes: of the quadrature.

    Raises:
        UserError: a site is none of these, or a ``pyro.factor`` of the guide; a latent of the model
            is not in the guide; there are more assignments than can be run in the way that the
            program allows.
    """

    def __init__(self, *, nodes: int = 32, **options: Any) -> None:
        super().__init__(1, **options)
        self.nodes = nodes

    def estimate(
        self, programs: ModelAndGuide, draws: Sequence[TracePair]
    ) -> tuple[Tensor, Tensor]:
        """(bound, bound)."""
        bound = sum((expectation(pair) for pair in draws[1:]), expectation(draws[0]))
        return bound, bound

    def _get_traces(
        self, model: StochasticFunction, guide: StochasticFunction, args: Any, kwargs: Any
    ) -> Iterator[TracePair]:
        """One pair of traces that holds all values, or one pair for each assignment."""
        programs = self._programs(model, guide, args, kwargs)
        if self.max_plate_nesting == math.inf:
            with torch.no_grad(), rng.forked():
                ELBO._guess_max_plate_nesting(self, programs.model, programs.guide, args, kwargs)
        rank = int(self.max_plate_nesting)
        reason = known_difference(programs, rank, self.nodes)
        if reason is None:
            yield all_at_once(programs, rank, self.nodes)
        else:
            yield from one_by_one(programs, self.nodes, reason)


def expectation(pair: TracePair) -> Tensor:
    """() this pair's part of Σ_z q(z) [log p(x, z) − log q(z)], nats."""
    model_trace, guide_trace = pair
    values = values_in(guide_trace)
    signed = [(+1, s) for s in sample_sites(model_trace).values()]
    signed += [(-1, s) for s in sample_sites(guide_trace).values()]
    if all(isinstance(v, Axis) for v in values.values()):
        return sum((sign * site_mean(values, site) for sign, site in signed), torch.zeros(()))
    log_weight = sum((v.log_weight.sum() for v in values.values()), torch.zeros(()))
    log_ratio = sum((sign * site["log_prob"].sum() for sign, site in signed), torch.zeros(()))
    return weighted(log_weight, log_ratio)


def site_mean(axes: dict[str, Any], site: Any) -> Tensor:
    """() Σ over all values of (their probability) × (the site's log-probability)."""
    value, plates = site["log_prob"], all_dims(site)
    inside = [axis for axis in axes.values() if axis.plates <= plates.keys()]
    log_weight = sum((axis.log_weight for axis in inside), value.new_zeros(()))
    table = torch.broadcast_shapes(log_weight.shape, value.shape)
    refuse_large(site["name"], math.prod(table))
    return weighted(log_weight, value).sum()


def weighted(log_weight: Tensor, value: Tensor) -> Tensor:
    """exp(log-weight) × value; 0 where the weight is 0, whatever the value."""
    possible = log_weight > -math.inf
    return torch.where(possible, log_weight.exp() * torch.where(possible, value, 0.0), 0.0)


# All assignments in one run


@dataclass(frozen=True, eq=False)
class Axis:
    """One latent's values in a trace of all: their dimension, log-weights, the site's plates."""

    dim: int
    log_weight: Tensor
    plates: frozenset[str]


class Enumerate(Messenger):
    """Gives each latent site all its values at once, along a dimension of its own.

    The dimensions are to the left of ``rank`` dimensions of plates.
    """

    def __init__(self, rank: int, nodes: int) -> None:
        super().__init__()
        self.rank, self.nodes = rank, nodes
        self.count = 0

    def _pyro_sample(self, msg: Message[..., Any]) -> None:
        if not is_summed(msg):
            return
        dim = -1 - self.rank - self.count
        values, log_weight = all_values_of(msg, self.nodes, dim)
        self.count += 1
        give(msg, values, Axis(dim, log_weight, frozenset(all_dims(msg))))


def all_at_once(programs: ModelAndGuide, rank: int, nodes: int) -> TracePair:
    """The traces of all values."""
    return traced(replace(programs, nesting=rank), Enumerate(rank, nodes))


def traced(programs: ModelAndGuide, values: Messenger) -> TracePair:
    """(model trace, guide trace), the latents as ``values`` gives them to the guide.

    Raises:
        UserError: a latent of the model is not in the guide.
    """
    guide_trace = programs.score(values(programs.guide))
    refuse_factors(guide_trace)
    model_trace = programs.score(poutine.replay(programs.model, trace=guide_trace))
    for name, site in sample_sites(model_trace).items():
        if not site["is_observed"] and name not in guide_trace.nodes:
            raise UserError(
                f"latent site {name!r} of the model is not in the guide: Exact sums over what the "
                "guide draws; draw it there"
            )
    return model_trace, guide_trace


def refuse_factors(guide_trace: Trace) -> None:
    """Raise a ``UserError`` if the guide has a ``pyro.factor``."""
    for name, site in sample_sites(guide_trace).items():
        if is_factor(site):
            raise UserError(
                f"site {name!r} is a pyro.factor of the guide, for something that is no site: "
                "Exact cannot sum over it; draw it by pyro.sample"
            )


def give(msg: Any, value: Tensor, of_site: Axis | Chosen) -> None:
    """Set a latent to this value, and record in its trace which of its values that is."""
    msg["value"], msg["done"] = value, True
    msg["infer"] = {**(msg["infer"] or {}), VALUES: of_site}


def values_in(guide_trace: Trace) -> dict[str, Any]:
    """Site → which values the trace holds of it."""
    sites = sample_sites(guide_trace)
    return {name: s["infer"][VALUES] for name, s in sites.items() if VALUES in s["infer"]}


# One assignment a run


@dataclass(frozen=True, eq=False)
class Chosen:
    """One value of each element of a latent: its number and log-weight, (batch …) both."""

    index: Tensor
    log_weight: Tensor


class Assign(Messenger):
    """Gives each element of each latent site one of its values, by number.

    Attributes:
        digits: the numbers, an element after the other; 0 for those beyond the given ones.
        counts: how many values each element has.
    """

    def __init__(self, digits: Sequence[int], nodes: int) -> None:
        super().__init__()
        self.given, self.nodes = digits, nodes
        self.digits: list[int] = []
        self.counts: list[int] = []

    def _pyro_sample(self, msg: Message[..., Any]) -> None:
        if not is_summed(msg):
            return
        fn: Any = msg["fn"]
        values, log_weight = all_values_of(msg, self.nodes, -1 - len(fn.batch_shape))
        count, size, start = len(values), fn.batch_shape.numel(), len(self.digits)
        digits = [min(d, count - 1) for d in self.given[start : start + size]]
        digits += [0] * (size - len(digits))
        self.digits += digits
        self.counts += [count] * size
        index = torch.tensor(digits, device=log_weight.device).reshape(fn.batch_shape)
        values = values.expand(count, *fn.batch_shape, *fn.event_shape)
        beside = index.reshape(1, *fn.batch_shape, *(1,) * fn.event_dim)
        log_weight = log_weight.expand(count, *fn.batch_shape).take_along_dim(index[None], 0)[0]
        give(msg, values.take_along_dim(beside, 0)[0], Chosen(index, log_weight))


def one_by_one(programs: ModelAndGuide, nodes: int, reason: Reason) -> Iterator[TracePair]:
    """The traces of each assignment in turn; which sites there are may depend on the values.

    Raises:
        UserError: there are too many, and ``reason`` why they cannot be run at once.
    """
    digits: Sequence[int] | None = []
    number = 0
    while digits is not None:
        assign = Assign(digits, nodes)
        pair = traced(programs, assign)
        number += 1
        if max(number, math.prod(assign.counts)) > MOST_RUNS:
            raise UserError(
                f"{reason}, and there are more than {MOST_RUNS:,} assignments of the latents, "
                "too many for one run each: give fewer rows, or write the program so that it "
                "treats leading dimensions as a batch"
            )
        yield pair
        digits = following(assign.digits, assign.counts)


def following(digits: Sequence[int], counts: Sequence[int]) -> Sequence[int] | None:
    """The next digits of a counter, without trailing zeros; None after the last."""
    for place in reversed(range(len(digits))):
        if digits[place] + 1 < counts[place]:
            return [*digits[:place], digits[place] + 1]
    return None


# Whether both are the same


def known_difference(programs: ModelAndGuide, rank: int, nodes: int) -> Reason | None:
    """``difference``, found once for a program and the shapes of its arguments."""
    guides = _compared.setdefault(root(programs.model), WeakKeyDictionary())
    known = guides.setdefault(root(programs.guide), {})
    arguments = (*programs.args, *programs.kwargs.values())
    key = rank, nodes, *(a.shape if isinstance(a, Tensor) else None for a in arguments)
    if key not in known:
        with torch.no_grad():
            known[key] = difference(programs, rank, nodes)
    return known[key]


def root(program: Callable[..., Any]) -> Any:
    """The function or object inside handlers, partials and bound methods."""
    while True:
        if isinstance(program, partial):
            program = program.func
        elif hasattr(program, "__wrapped__"):
            program = program.__wrapped__
        else:
            return getattr(program, "__self__", program)


def difference(programs: ModelAndGuide, rank: int, nodes: int) -> Reason | None:
    """Where one run of all values and runs of one assignment differ; None if nowhere.

    Raises:
        UserError: a latent cannot be summed over, in either way; model and guide do not match.
    """
    if is_validation_enabled():
        with rng.forked(0):
            programs.run()  # compares model and guide, as every estimator does
    try:
        with rng.forked(0):
            table = all_at_once(programs, rank, nodes)
    except Exception as error:  # whatever a program raises that is not made for all values
        with rng.forked(0):
            traced(programs, Assign([], nodes))  # refuses latents that cannot be summed over
        line = str(error).strip().partition("\n")[0]
        return f"the program does not run with all values of its latents at once ({line})"
    for digits in compared_digits(programs, nodes):
        with rng.forked(0):
            one = traced(programs, Assign(digits, nodes))
        for of_all, of_one in zip(table, one, strict=True):
            if reason := trace_difference(of_all, of_one, values_in(table[1]), values_in(one[1])):
                return reason
    return None


def compared_digits(programs: ModelAndGuide, nodes: int) -> Iterator[Sequence[int]]:
    """Numbers of assignments: all if they are few, else some at random (the same each time)."""
    first = Assign([], nodes)
    with rng.forked(0):
        traced(programs, first)
    digits: Sequence[int] | None = []
    if math.prod(first.counts) <= COMPARED:
        while digits is not None:
            yield digits
            digits = following([*digits, *[0] * (len(first.counts) - len(digits))], first.counts)
        return
    chance = random.Random(0)
    for _ in range(COMPARED):
        yield [chance.randrange(count) for count in first.counts]


def trace_difference(
    of_all: Trace, of_one: Trace, axes: dict[str, Any], chosen: dict[str, Any]
) -> Reason | None:
    """Whether a trace of all values holds the log-probabilities of this trace of one assignment."""
    many, one = sample_sites(of_all), sample_sites(of_one)
    if many.keys() != one.keys() or axes.keys() != chosen.keys():
        return "which sites the program has depends on the values of its latents"
    for name, site in many.items():
        picked = site["log_prob"]
        for latent, axis in axes.items():
            if picked.dim() < -axis.dim or picked.shape[axis.dim] == 1:
                continue
            if not axis.plates <= all_dims(site).keys():
                return (
                    f"site {name!r} depends on site {latent!r} in a plate that {name!r} is outside "
                    "of"
                )
            picked = picked.take_along_dim(aligned(chosen[latent].index, picked.dim()), axis.dim)
        if not same(picked, one[name]["log_prob"]):
            return (
                f"at site {name!r} the program does not treat leading dimensions of its latents as "
                "a batch"
            )
    return None


def aligned(index: Tensor, rank: int) -> Tensor:
    """With ones to the left, up to this rank."""
    return index.reshape((1,) * (rank - index.dim()) + index.shape)


def same(picked: Tensor, one: Tensor) -> bool:
    """Whether equal up to rounding, and of one shape up to leading ones."""
    rank = max(picked.dim(), one.dim())
    return close(aligned(picked, rank), aligned(one, rank))


# The values of one site


def is_summed(msg: Any) -> bool:
    """Whether a message is of a latent with several values: a Delta's is drawn as it is."""
    return is_site(msg) and not msg["is_observed"] and distribution_name(msg["fn"]) != "Delta"


def all_values_of(msg: Any, nodes: int, dim: int) -> tuple[Tensor, Tensor]:
    """(values, log-weights) of a latent, both with the values along ``dim``."""
    name, fn = msg["name"], msg["fn"]
    if distribution_name(fn) == "Normal":
        if fn.event_shape.numel() != 1:
            raise UserError(
                f"Exact integrates Normal sites of one number each, but an event of site {name!r} "
                f"has {fn.event_shape.numel()}"
            )
        return at_fixed_nodes(fn, *hermite(fn, nodes, dim))
    if not getattr(base(fn), "has_enumerate_support", False):
        raise UserError(
            f"Exact enumerates discrete sites and integrates Normal ones, but site {name!r} is "
            f"a {distribution_name(fn)}"
        )
    support = all_values(fn)
    refuse_large(name, len(support) * math.prod(fn.batch_shape))  # before the program goes on
    values = support.reshape(-1, *(1,) * (-dim - 1), *fn.event_shape)
    return values, unmasked(fn).log_prob(values)


def refuse_large(name: str, entries: int) -> None:
    """Raise a ``UserError`` if the table at this site has more than ``LARGEST`` entries."""
    if entries > LARGEST:
        raise UserError(
            f"the table of all values at site {name!r} has {entries:,} entries: give fewer rows, "
            "or a program with fewer sites that depend on each other"
        )


def all_values(fn: Any) -> Tensor:
    """(S, event …) every value of one draw of a discrete distribution."""
    inner = base(fn)
    atoms: Tensor = inner.enumerate_support(expand=False)
    atoms = atoms.reshape(len(atoms), *inner.event_shape)
    copies = math.prod(fn.event_shape[: fn.event_dim - inner.event_dim])
    if fn.event_dim == inner.event_dim:
        return atoms
    if copies * math.log(len(atoms)) > math.log(LARGEST):
        raise UserError(f"{len(atoms)}^{copies} values of one site are too many to enumerate")
    choices = itertools.product(range(len(atoms)), repeat=copies)
    index = torch.tensor(list(choices), device=atoms.device)
    return atoms[index].reshape(len(index), *fn.event_shape)


def at_fixed_nodes(fn: Any, values: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes without gradient; the weights have that of q, as with discrete values.

    A gradient through the nodes would not see a jump of what is integrated.
    """
    values = values.detach()
    log_q = unmasked(fn).log_prob(values)
    return values, log_weight + log_q - log_q.detach()


def hermite(fn: Any, nodes: int, dim: int) -> tuple[Tensor, Tensor]:
    """Nodes μ + σ √2 x and log-weights log(w / √π) of ∫ N(z; μ, σ) f(z) dz."""
    x, w = np.polynomial.hermite.hermgauss(nodes)
    inner = base(fn)
    shape = (-1, *(1,) * (-dim - 1), *fn.event_shape)
    x_, w_ = (torch.as_tensor(a, dtype=inner.loc.dtype, device=inner.loc.device) for a in (x, w))
    values = inner.loc + inner.scale * math.sqrt(2) * x_.reshape(shape)
    log_weight = (w_ / math.sqrt(math.pi)).log().reshape(-1, *(1,) * (-dim - 1))
    return values, log_weight


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have one shape and are equal up to rounding in ``a``'s type."""
    if a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b.to(a))
    tolerance = torch.finfo(a.dtype).eps ** 0.5
    return torch.allclose(a, b.to(a), rtol=tolerance, atol=tolerance, equal_nan=True)
