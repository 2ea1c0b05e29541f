"""The sites of draws, in one layout for vectorised and single runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pyro.distributions import MaskedDistribution
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor

from inference.util.errors import UserError
from inference.util.sites import distribution_name, sample_sites, unmasked

SiteKind = Literal["latent", "observed", "deterministic", "factor"]


@dataclass(frozen=True)
class Site:
    """A site in K draws; every site of a program has the same number of batch dimensions.

    Attributes:
        value: (K or 1, batch …, event …); None for an enumerated latent.
        log_prob: (K or 1, batch …) nats, masked, not scaled; None where it is in another site's
            sum.
        mask: (K or 1, batch …) False where the model masks the site's log-probability, or None.
        plates: batch dimension, counted from the right → (the plate's name, its size).
        steps: (plate, index in it, size) of the sequential plates around the site.
        scale: factor of ``poutine.scale`` on the site, without the plates' own; 1 if none.
    """

    kind: SiteKind
    value: Tensor | None
    log_prob: Tensor | None
    event_dim: int = 0
    mask: Tensor | None = None
    plates: Mapping[int, tuple[str, int]] | None = None
    steps: tuple[tuple[str, int, int], ...] = ()
    scale: float = 1.0
    is_delta: bool = False

    @property
    def plate_names(self) -> set[str]:
        """Names of the plates along the dimensions of ``log_prob``."""
        return {name for name, _ in (self.plates or {}).values()}


Sites = dict[str, Site]


def is_deterministic(site: Any) -> bool:
    """Whether it is a ``pyro.deterministic``, or was made deterministic by a reparam handler."""
    fn = site["fn"]
    if site["infer"].get("_deterministic"):
        return True
    masked = isinstance(fn, MaskedDistribution) and fn._mask is False
    return bool(site["is_observed"] and masked and distribution_name(fn) == "Delta")


def kind_of(site: Any) -> SiteKind:
    """The kind of a sample site."""
    if is_deterministic(site):
        return "deterministic"
    if distribution_name(site["fn"]) == "Unit":
        return "factor"
    return "observed" if site["is_observed"] else "latent"


def batch_rank(traces: Iterable[Trace]) -> int:
    """The largest number of batch dimensions of a site of a single run, at least 1."""
    rank = 1
    for trace in traces:
        for site in sample_sites(trace).values():
            frames = [-f.dim for f in site["cond_indep_stack"] if f.vectorized]
            rank = max([rank, len(site["fn"].batch_shape), log_prob_of(site).dim(), *frames])
    return rank


def log_prob_of(site: Any) -> Tensor:
    """(batch …) nats, masked, not scaled, of a trace's site."""
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    masked: Tensor = scale_and_mask(log_prob, mask=site["mask"])
    return masked


def recorded(
    trace: Trace,
    rank: int,
    event_dims: Mapping[str, int] | None = None,
    leave_out: Iterable[str] = (),
    unscored: Iterable[str] = (),
) -> Sites:
    """The sites of a trace of one draw, or of K draws in a plate left of ``rank`` dimensions.

    Args:
        trace: of one run.
        rank: number of batch dimensions of a single draw.
        event_dims: of deterministic sites, from a single draw.
        leave_out: names of sites to leave out.
        unscored: names of sites to record without log-probability.

    Raises:
        UserError: a site has more batch dimensions than ``rank``.
    """
    left_out, without = set(leave_out), set(unscored)
    return {
        name: _site(site, rank, (event_dims or {}).get(name), name not in without)
        for name, site in sample_sites(trace).items()
        if name not in left_out
    }


def _site(site: Any, rank: int, event_dim: int | None, scored: bool) -> Site:
    fn, kind = site["fn"], kind_of(site)
    vectorized = [f for f in site["cond_indep_stack"] if f.vectorized and -f.dim <= rank]
    plates = {f.dim: (f.name, f.size) for f in vectorized}
    if event_dim is None or kind != "deterministic":
        event_dim = _event_dim(site, plates) if kind == "deterministic" else fn.event_dim
    value = padded(site["value"], 1 + rank, event_dim)
    if kind != "deterministic" and scored:
        own = (1,) * (1 + rank - len(fn.batch_shape)) + tuple(fn.batch_shape)
        if own != value.shape[: 1 + rank]:
            batch = torch.broadcast_shapes(own, value.shape[: 1 + rank])
            value = value.expand(*batch, *value.shape[1 + rank :])
    return Site(
        kind,
        value,
        padded(log_prob_of(site), 1 + rank) if scored else None,
        event_dim,
        _mask(site, rank),
        plates,
        tuple(
            (f.name, f.counter - 1, f.size) for f in site["cond_indep_stack"] if not f.vectorized
        ),
        _own_scale(site),
        distribution_name(unmasked(fn)) == "Delta",
    )


def padded(tensor: Tensor, rank: int, event_dim: int = 0) -> Tensor:
    """Pad with dimensions of length 1 on the left, up to ``rank`` batch dimensions.

    Raises:
        UserError: it has more than ``rank``.
    """
    missing = rank + event_dim - tensor.dim()
    if missing < 0:
        raise UserError("a site has more batch dimensions in one draw than in another")
    return tensor.reshape((1,) * missing + tensor.shape)


def _event_dim(site: Any, plates: Mapping[int, tuple[str, int]]) -> int:
    """Event dimensions of a deterministic value, inside plates often left at the default.

    The default counts all dimensions as the event's, also those of plates.
    """
    value, stated = site["value"], int(site["fn"].event_dim)
    deepest = max((-dim for dim in plates), default=0)
    event_dim = value.dim() - deepest
    if stated < value.dim() or not plates or event_dim < 0:
        return stated
    fits = all(value.shape[dim - event_dim] == size for dim, (_, size) in plates.items())
    return event_dim if fits else stated


def _mask(site: Any, rank: int) -> Tensor | None:
    fn, mask = site["fn"], None
    given = [site["mask"], fn._mask if isinstance(fn, MaskedDistribution) else None]
    for part in given:
        if part is None or part is True:
            continue
        one = torch.as_tensor(part, device=site["value"].device).bool()
        mask = one if mask is None else mask & one
    return None if mask is None else padded(mask, 1 + rank)


def _own_scale(site: Any) -> float:
    """The factor of ``poutine.scale``; nan if it differs between elements."""
    plates = math.prod(
        getattr(f, "full_size", None) / f.size if getattr(f, "full_size", None) else 1.0
        for f in site["cond_indep_stack"]
    )
    scale = torch.as_tensor(site["scale"], dtype=torch.float64).cpu() / plates
    if scale.numel() > 1 and float(scale.max() - scale.min()) > 1e-6:
        return math.nan
    first = float(scale.reshape(-1)[0])
    return 1.0 if abs(first - 1) < 1e-6 else first


def joined(parts: Sequence[Sites], counts: Sequence[int]) -> Sites:
    """Concatenate the draws of several parts, on the host; an observed value is kept once.

    Raises:
        UserError: the draws differ in their sites, or in a site's shape.
    """
    for sites in parts:
        if wrong := sorted(sites.keys() ^ parts[0].keys()):
            raise UserError(
                f"site {wrong[0]!r} is in some draws of the program and not in others: draws of "
                "different sites have no common array; draw it every time, masked where unused"
            )
    return {name: _joined(name, [sites[name] for sites in parts], counts) for name in parts[0]}


def _joined(name: str, parts: Sequence[Site], counts: Sequence[int]) -> Site:
    first = parts[0]
    values = [part.value for part in parts]
    if first.kind == "observed" and first.value is not None:
        values, once = [first.value[:1]], [1]
    else:
        once = list(counts)
    try:
        value = _concatenated(values, once)
        log_prob = _concatenated([part.log_prob for part in parts], counts)
        mask = _concatenated([part.mask for part in parts], counts)
    except RuntimeError:
        raise UserError(
            f"site {name!r} has another shape in each draw: such draws have no common array; pad "
            "it to one shape"
        ) from None
    return replace(first, value=value, log_prob=log_prob, mask=mask)


def _concatenated(tensors: Sequence[Tensor | None], counts: Sequence[int]) -> Tensor | None:
    """(K, …) on the host, of parts (K_i or 1, …); None if all are None."""
    full = [
        t.expand(count, *t.shape[1:]).cpu()
        for t, count in zip(tensors, counts, strict=True)
        if t is not None
    ]
    if len(full) < len(tensors):
        return None
    return full[0] if len(full) == 1 else torch.cat(full)


def stacked(sites: Sites) -> Sites:
    """Stack the numbered sites of a sequential plate: x_0, x_1, … become x.

    Sites that are not one for each element of the plate, or differ in shape, stay separate.
    """
    groups: dict[Any, list[str]] = {}
    for name, site in sites.items():
        if site.steps:
            plates = tuple((plate, size) for plate, _, size in site.steps)
            groups.setdefault((_stem(name, site.steps), plates, site.kind), []).append(name)
    merged: dict[str, tuple[str, Site]] = {}
    for (stem, plates, _), names in groups.items():
        members = sorted((sites[n] for n in names), key=lambda s: [step for _, step, _ in s.steps])
        whole = len(members) == math.prod(size for _, size in plates)
        shapes = {(None if s.value is None else s.value.shape, s.event_dim) for s in members}
        if whole and len(shapes) == 1 and stem and (stem not in sites or stem in names):
            merged |= dict.fromkeys(names, (stem, _stack(members, plates)))
    found: Sites = {}
    for name, site in sites.items():
        new, its = merged.get(name, (name, site))
        found[new] = its
    return found


def _stem(name: str, steps: Sequence[tuple[str, int, int]]) -> str:
    """``x`` for ``x_3`` at index 3 of its plate."""
    for _, step, _ in reversed(steps):
        tokens = list(re.finditer(r"_?(\d+)", name))
        equal = [t for t in tokens if int(t.group(1)) == step] or tokens
        if not equal:
            return name
        name = name[: equal[-1].start()] + name[equal[-1].end() :]
    return name


def _stack(members: Sequence[Site], plates: Sequence[tuple[str, int]]) -> Site:
    """Stack along new batch dimensions, to the left of all others."""
    first = members[0]
    sizes = [size for _, size in plates]

    def stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
        if any(t is None for t in tensors):
            return None
        filled = torch.broadcast_tensors(*(t for t in tensors if t is not None))
        along: Tensor = torch.stack(list(filled), 1).unflatten(1, sizes)
        return along

    masks: list[Tensor | None] = [m.mask for m in members]
    if any(m is not None for m in masks):
        ones = torch.ones((), dtype=torch.bool)
        masks = [ones.expand_as(s.log_prob) if s.mask is None else s.mask for s in members]  # type: ignore[arg-type]
    tensors = [t for t in (first.value, first.log_prob) if t is not None]
    rank = tensors[0].dim() - 1 - (first.event_dim if first.value is not None else 0)
    new = {-1 - rank - i: plate for i, plate in enumerate(reversed(plates))}
    return replace(
        first,
        value=stack([m.value for m in members]),
        log_prob=stack([m.log_prob for m in members]),
        mask=stack(masks),
        plates={**(first.plates or {}), **new},
        steps=(),
    )
