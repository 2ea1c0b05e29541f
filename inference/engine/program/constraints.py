"""A parameter's constraint in plain types, for a checkpoint that holds no Python objects."""

from __future__ import annotations

import inspect
from typing import Any

from pyro.distributions import constraints as pyro_constraints
from torch import Tensor
from torch.distributions import constraints as torch_constraints
from torch.distributions.constraints import Constraint

PLAIN = (bool, int, float, str, type(None), Tensor)
KINDS: dict[str, type[Constraint]] = {
    kind.__name__: kind
    for source in (torch_constraints, pyro_constraints)
    for kind in vars(source).values()
    if inspect.isclass(kind) and issubclass(kind, Constraint)
}


def described(thing: Any) -> Any:
    """A constraint of torch's or Pyro's as nested dicts and lists of tensors and numbers.

    Raises:
        TypeError: it is, or holds, something else.
    """
    if isinstance(thing, PLAIN):
        return thing
    if isinstance(thing, list | tuple):
        return [described(item) for item in thing]
    if KINDS.get(type(thing).__name__) is type(thing):
        options = {name: described(value) for name, value in vars(thing).items()}
        return {"kind": type(thing).__name__, "options": options}
    raise TypeError(f"a {type(thing).__name__} is none of torch's or Pyro's constraints")


def constraint_from(description: Any) -> Any:
    """The constraint that ``described`` speaks of."""
    if isinstance(description, list):
        return [constraint_from(item) for item in description]
    if not isinstance(description, dict):
        return description
    constraint = object.__new__(KINDS[description["kind"]])
    for name, value in description["options"].items():
        setattr(constraint, name, constraint_from(value))
    return constraint
