"""The parameters of a program: its modules' own, and those that it names by ``pyro.param``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pyro
from pyro.poutine import Trace
from torch import Tensor, nn

Callee = Callable[..., Any]
ESTIMATORS = "__baseline_avg"  # what Pyro's estimators keep in the store


def roots_parameters(**callees: Callee) -> dict[str, Tensor]:
    """``role.name`` → what a callable owns that is a module itself.

    Of modules that a function or method uses, the parameters are those that the program registers
    (``pyro.module``, a ``PyroModule``'s call), as in Pyro: what is not registered stays as it is.
    """
    found: dict[str, Tensor] = {}
    for role, callee in callees.items():
        if isinstance(module := unwrapped(callee), nn.Module):
            named = module.named_parameters()
            found |= others(found, {f"{role}.{n}": p for n, p in named if p.requires_grad})
    return found


def unwrapped(callee: Callee) -> Callee:
    """What ``functools.partial`` calls in the end."""
    return unwrapped(callee.func) if isinstance(callee, functools.partial) else callee


def others(known: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those found that are not known yet, under whatever name."""
    have = set(map(id, known.values()))
    return {name: p for name, p in found.items() if id(p) not in have and name not in known}


def met(trace: Trace) -> dict[str, Tensor]:
    """The unconstrained leaves of param sites, by name."""
    found = {}
    for name, site in trace.nodes.items():
        value: Any = site["value"]
        leaf = value.unconstrained() if hasattr(value, "unconstrained") else value
        if leaf.requires_grad:
            found[name] = leaf
    return found


def stored() -> dict[str, Tensor]:
    """The unconstrained leaves in Pyro's store, without what its estimators keep there."""
    named = pyro.get_param_store().named_parameters()
    return {name: p for name, p in named if not name.startswith(ESTIMATORS)}
