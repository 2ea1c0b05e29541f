"""The sample sites of a trace."""

from __future__ import annotations

import re
from typing import Any

from pyro.distributions import MaskedDistribution
from pyro.poutine import Trace
from torch.distributions import Independent, TransformedDistribution


def is_site(node: Any) -> bool:
    """Whether it is a sample site, and not the index draw of a subsampling plate."""
    return node["type"] == "sample" and type(node["fn"]).__name__ != "_Subsample"


def sample_sites(trace: Trace) -> dict[str, Any]:
    """Name → site, in the program's order."""
    return {name: node for name, node in trace.nodes.items() if is_site(node)}


def is_factor(site: Any) -> bool:
    """A ``pyro.factor``."""
    return distribution_name(site["fn"]) == "Unit"


def distribution_name(fn: Any) -> str:
    """``Bernoulli`` for an ``Independent`` Bernoulli, and so on."""
    return type(base(fn)).__name__


def described(trace: Trace) -> dict[str, str]:
    """Name → distribution; sites x_0, x_1, … of one sequence are one entry."""
    return {
        re.sub(r"_\d+$", "_…", name): _family(base(site["fn"]))
        for name, site in sample_sites(trace).items()
    }


def _family(fn: Any) -> str:
    parts = [base(fn.base_dist), *fn.transforms] if isinstance(fn, TransformedDistribution) else []
    inner = ", ".join(type(part).__name__ for part in parts)
    return f"{type(fn).__name__}({inner})" if inner else type(fn).__name__


def unmasked(fn: Any) -> Any:
    """The distribution without its mask, which affects log-probabilities, not draws."""
    if isinstance(fn, MaskedDistribution):
        return unmasked(fn.base_dist)
    if isinstance(fn, Independent) and (inner := unmasked(fn.base_dist)) is not fn.base_dist:
        return inner.to_event(fn.reinterpreted_batch_ndims)
    return fn


def base(fn: Any) -> Any:
    """The distribution inside ``Independent`` and masks (transforms are not removed)."""
    while isinstance(fn, Independent | MaskedDistribution):
        fn = fn.base_dist
    return fn
