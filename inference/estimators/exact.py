"""The oracle: the ELBO summed over every value of every discrete site, hence its exact gradient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from inference.estimators.base import Estimator, ModelAndGuide, TracePair
from inference.estimators.ledger import all_dims
from inference.util.errors import UserError
from inference.util.sites import base, distribution_name, is_site, sample_sites, unmasked

LARGEST = 10_000_000  # entries of the table of all values


class Exact(Estimator):
    """``Σ_z q(z) [log p(x, z) − log q(z)]``: no noise, exponential cost; the yardstick.

    Every Bernoulli, categorical and one-hot site is enumerated, each in a dimension of its own to
    the left of the plates; every Normal is integrated by Gauss–Hermite quadrature (exact for
    polynomials of degree below twice the number of nodes).  Needs programs that keep leading
    dimensions.

    Args:
        nodes: of the quadrature.

    Raises:
        UserError: a site is none of these; a term depends on a site in a plate that the term is
            outside of; the table would hold more than ten million entries.
    """

    def __init__(self, *, nodes: int = 32, **options: Any) -> None:
        super().__init__(1, **options)
        self.nodes = nodes

    def estimate(
        self, programs: ModelAndGuide, draws: Sequence[TracePair]
    ) -> tuple[Tensor, Tensor]:
        """(bound, bound)."""
        ((model_trace, guide_trace),) = draws
        bound: Any = 0.0
        for sign, trace in ((1, model_trace), (-1, guide_trace)):
            for name, site in sample_sites(trace).items():
                bound = bound + sign * self._table.expectation(name, site)
        return bound, bound

    def draw(self, programs: ModelAndGuide) -> TracePair:
        """The traces of all values at once."""
        if self.max_plate_nesting == math.inf:
            with torch.no_grad():
                self._guess_max_plate_nesting(
                    programs.model, programs.guide, programs.args, programs.kwargs
                )
        self._table = Enumerate(int(self.max_plate_nesting), self.nodes)
        programs = replace(programs, nesting=self.max_plate_nesting)
        guide_trace = programs.score(self._table(programs.guide))
        return programs.score(poutine.replay(programs.model, trace=guide_trace)), guide_trace


@dataclass(frozen=True, eq=False)
class Axis:
    """One enumerated site: its dimension, the log-weight of each value there, its plates."""

    dim: int
    log_weight: Tensor
    plates: frozenset[str]


class Enumerate(Messenger):
    """Gives each latent site all its values at once, along a dimension of its own."""

    def __init__(self, rank: int, nodes: int = 32) -> None:
        super().__init__()
        self.rank, self.nodes = rank, nodes
        self.axes: dict[str, Axis] = {}

    def expectation(self, name: str, site: Any) -> Tensor:
        """() the sum over all values of (their probability) × (the site's log-probability)."""
        value, plates = site["log_prob"], all_dims(site)
        inside = [axis for axis in self.axes.values() if axis.plates <= plates.keys()]
        weight = sum((axis.log_weight for axis in inside), value.new_zeros(()))
        table = torch.broadcast_shapes(weight.shape, value.shape)
        for other, axis in self.axes.items():
            if axis not in inside and len(table) >= -axis.dim and table[axis.dim] > 1:
                raise UserError(
                    f"site {name!r} depends on site {other!r} in a plate that {name!r} is outside "
                    "of: its elements cannot be enumerated one by one"
                )
        refuse_large(name, math.prod(table))
        possible = weight > -math.inf
        return torch.where(possible, weight.exp() * torch.where(possible, value, 0.0), 0.0).sum()

    def _pyro_sample(self, msg: Message) -> None:
        if msg["is_observed"] or not is_site(msg):
            return
        fn, dim = msg["fn"], -1 - self.rank - len(self.axes)
        values, log_weight = self._values(str(msg["name"]), fn, dim)
        msg["value"], msg["done"] = values, True
        frames = frozenset(all_dims(msg))
        self.axes[str(msg["name"])] = Axis(dim, log_weight, frames)

    def _values(self, name: str, fn: Any, dim: int) -> tuple[Tensor, Tensor]:
        """(values, log-weights), both with the values along ``dim``."""
        if distribution_name(fn) == "Normal":
            return hermite(fn, self.nodes, dim)
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
    atoms = inner.enumerate_support(expand=False)
    atoms = atoms.reshape(len(atoms), *inner.event_shape)
    copies = math.prod(fn.event_shape[: fn.event_dim - inner.event_dim])
    if fn.event_dim == inner.event_dim:
        return atoms
    if copies * math.log(len(atoms)) > math.log(LARGEST):
        raise UserError(f"{len(atoms)}^{copies} values of one site are too many to enumerate")
    choices = itertools.product(range(len(atoms)), repeat=copies)
    index = torch.tensor(list(choices), device=atoms.device)
    return atoms[index].reshape(len(index), *fn.event_shape)


def hermite(fn: Any, nodes: int, dim: int) -> tuple[Tensor, Tensor]:
    """Nodes μ + σ √2 x and log-weights log(w / √π) of ∫ N(z; μ, σ) f(z) dz."""
    if fn.event_shape.numel() != 1:
        raise UserError("Exact integrates Normal sites of one number only")
    x, w = np.polynomial.hermite.hermgauss(nodes)
    inner = base(fn)
    shape = (-1, *(1,) * (-dim - 1), *fn.event_shape)
    x_, w_ = (torch.as_tensor(a, dtype=inner.loc.dtype, device=inner.loc.device) for a in (x, w))
    values = inner.loc + inner.scale * math.sqrt(2) * x_.reshape(shape)
    log_weight = (w_ / math.sqrt(math.pi)).log().reshape(-1, *(1,) * (-dim - 1))
    return values, log_weight
