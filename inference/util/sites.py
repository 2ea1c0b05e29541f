"""The sample sites of a trace."""

from __future__ import annotations

import re
from typing import Any

import torch
from pyro.distributions import MaskedDistribution
from pyro.poutine import Trace
from torch import Tensor
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


def described(trace: Trace, dependent: Trace | None = None) -> dict[str, str]:
    """Name → distribution, with its constants; sites x_0, x_1, … of one sequence are one entry.

    Args:
        trace: of the program.
        dependent: another, in which all that depends on parameters or draws requires a gradient;
            None for families alone.
    """
    like = {} if dependent is None else sample_sites(dependent)
    found: dict[str, list[str]] = {}
    for name, site in sample_sites(trace).items():
        kind = _family(base(site["fn"])) + _constants(like.get(name))
        found.setdefault(re.sub(r"_\d+$", "_…", name), []).append(kind)
    return {name: " or ".join(dict.fromkeys(kinds)) for name, kinds in found.items()}


def _family(fn: Any) -> str:
    parts = [base(fn.base_dist), *fn.transforms] if isinstance(fn, TransformedDistribution) else []
    inner = ", ".join(type(part).__name__ for part in parts)
    return f"{type(fn).__name__}({inner})" if inner else type(fn).__name__


def _constants(site: Any) -> str:
    """``(loc=0, scale=1)``: the arguments that are one number, whatever is learnt or drawn."""
    if site is None or is_factor(site):
        return ""
    fn = base(site["fn"])
    fn = base(fn.base_dist) if isinstance(fn, TransformedDistribution) else fn
    own = {name: fn.__dict__.get(name) for name in sorted(fn.arg_constraints)}
    numbers = {n: float(v.reshape(-1)[0]) for n, v in own.items() if _is_one_number(v)}
    return f"({', '.join(f'{n}={v:.6g}' for n, v in numbers.items())})" if numbers else ""


def _is_one_number(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.requires_grad or not value.numel():
        return False
    if value.is_complex() or value.layout is not torch.strided:
        return False
    own = value[tuple(slice(None) if step else 0 for step in value.stride())]  # not expanded
    return bool((own == own.reshape(-1)[0]).all())


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
