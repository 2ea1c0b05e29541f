"""Groups of sites whose log-probabilities share a latent, directly or indirectly.

p(x, z) and q(z) are products over groups, so that each group has a bound of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyro
import torch
from pyro.ops.provenance import get_provenance, track_provenance
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message

from inference.estimators.ledger import Ledger
from inference.estimators.programs import ModelAndGuide
from inference.util.sites import is_site, sample_sites


def coupled(ledger: Ledger, programs: ModelAndGuide, guide_trace: Trace) -> list[frozenset[str]]:
    """Sets of site names, each with a latent; sites in none depend on no latent.

    Where all sites are in the same plates, all sites after the first latent are one set.  Where
    plates differ, one more run at the same draws tracks each latent; sets in the same plates are
    merged, as in a datum's weight.  What a ``pyro.factor`` of the guide stands for is not a site
    and cannot be tracked: with one, all sites after it are one set.
    """
    moving = [term for term in ledger.terms if term.time >= 0]
    factors = any(choice.is_factor for choice in ledger.choices)
    if factors or len({frozenset(term.plates) for term in moving}) <= 1:
        return [frozenset(term.name for term in moving)] if moving else []
    latents = {choice.name for choice in ledger.choices}
    by_plates: dict[frozenset[str], frozenset[str]] = {}
    for names in merge_overlapping(latent_dependencies(programs, guide_trace)):
        if names & latents:
            plates = frozenset(shared_plates(ledger.only(names)))
            by_plates[plates] = by_plates.get(plates, frozenset()) | names
    return list(by_plates.values())


def shared_plates(ledger: Ledger) -> dict[str, int]:
    """Name → dimension of the plates that every term is in."""
    first, *others = (term.plates for term in ledger.terms)
    return {name: dim for name, dim in first.items() if all(name in o for o in others)}


def latent_dependencies(programs: ModelAndGuide, guide_trace: Trace) -> list[frozenset[str]]:
    """For each site of both programs, its name and those of the latents that it depends on."""
    with torch.no_grad(), pyro.validation_enabled(False), TrackLatents():
        traces = programs.run(start=guide_trace)
    return [
        get_provenance(site["log_prob"]) | {name}
        for trace in traces
        for name, site in sample_sites(trace).items()
    ]


def merge_overlapping(sets: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    """The unions of sets that overlap."""
    found: list[frozenset[str]] = []
    for new in sets:
        touching = [old for old in found if old & new]
        found = [old for old in found if not old & new] + [new.union(*touching)]
    return found


class TrackLatents(Messenger):
    """Tags each latent's value with its name; torch propagates tags to results."""

    def _pyro_post_sample(self, msg: Message[..., Any]) -> None:
        if is_site(msg) and not msg["is_observed"]:
            msg["value"] = track_provenance(msg["value"], frozenset({msg["name"]}))
