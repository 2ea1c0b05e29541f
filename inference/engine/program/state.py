"""A program's parameters and other state, saved as tensors by name and restored."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import pyro
import torch
from pyro.distributions import constraints as pyro_constraints
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.distributions import constraints as torch_constraints
from torch.distributions.constraints import Constraint

from inference.estimators.programs import StochasticFunction
from inference.util.errors import UserError

ESTIMATORS = "__baseline_avg"  # entries of Pyro's estimators in the store
PLAIN_TYPES = (bool, int, float, str, type(None), Tensor)
KINDS: dict[str, type[Constraint]] = {
    kind.__name__: kind
    for source in (torch_constraints, pyro_constraints)
    for kind in vars(source).values()
    if inspect.isclass(kind) and issubclass(kind, Constraint)
}


class Stateful(Protocol):
    """The parts of a program's state; see ``Program``."""

    parameters: dict[str, Tensor]
    late: set[str]
    known: tuple[int, int]
    device: torch.device

    def size(self) -> tuple[int, int]:
        """How many parameters there are to be known."""

    def buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The buffers by name, not copies."""


def roots_parameters(**callees: StochasticFunction) -> dict[str, Tensor]:
    """``role.name`` → parameter of each callable that is a module.

    Parameters of modules that a function or method uses count only if the program registers them
    (``pyro.module``, a ``PyroModule``'s call), as in Pyro; others are not trained.
    """
    found: dict[str, Tensor] = {}
    for role, callee in callees.items():
        if isinstance(module := unwrapped(callee), nn.Module):
            named = module.named_parameters()
            found |= others(found, {f"{role}.{n}": p for n, p in named if p.requires_grad})
    return found


def roots_size(*callees: StochasticFunction) -> int:
    """How many parameters ``roots_parameters`` would look at; a cheap count."""
    roots = [root for root in map(unwrapped, callees) if isinstance(root, nn.Module)]
    return sum(len(module._parameters) for root in roots for module in root.modules())


def unwrapped(callee: StochasticFunction) -> StochasticFunction:
    """The function inside ``functools.partial``."""
    return unwrapped(callee.func) if isinstance(callee, functools.partial) else callee


def others(known: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The found parameters that are not known yet under any name; each under its first."""
    have, new = set(map(id, known.values())), {}
    for name, parameter in found.items():
        if id(parameter) not in have and name not in known:
            have.add(id(parameter))
            new[name] = parameter
    return new


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
    """The unconstrained leaves in Pyro's store, without entries of its estimators."""
    named = pyro.get_param_store().named_parameters()
    return {name: p for name, p in named if not name.startswith(ESTIMATORS)}


def averages() -> set[str]:
    """Names of the entries of Pyro's estimators (decaying baselines) in its store."""
    return {name for name in pyro.get_param_store() if name.startswith(ESTIMATORS)}


@contextmanager
def averages_in_place() -> Iterator[None]:
    """Copies new values of these entries into the old tensors, so that a graph updates them."""
    store = pyro.get_param_store()
    before = {name: store._params[name] for name in averages()}
    yield
    with torch.no_grad():
        for name, old in before.items():
            if (new := store._params[name]) is not old:
                old.copy_(new)
                store[name] = old


def state_of(program: Stateful) -> dict[str, Any]:
    """Copies of parameters, buffers and the store, and the constraints of late parameters."""
    store = pyro.get_param_store()
    return {
        "parameters": {n: p.detach().clone() for n, p in program.parameters.items()},
        "buffers": {n: b.clone() for n, b in program.buffers()},
        "store": {n: store._params[n].detach().clone() for n in store},
        "constraints": {n: _constraint(n) for n in sorted(program.late)},
    }


def put_back(program: Stateful, state: dict[str, Any]) -> None:
    """Copy a state into the tensors in place.

    Raises:
        UserError: the state is of a program with other parameters.
    """
    _match_late_parameters(program, state)
    _refuse_others(program, state["parameters"])
    buffers, store = dict(program.buffers()), pyro.get_param_store()
    with torch.no_grad():
        for old, kept in (
            (program.parameters, state["parameters"]),
            (buffers, state["buffers"]),
        ):
            for name, value in kept.items():
                old[name].copy_(value)
        for name, value in state["store"].items():
            if name not in store:  # of an estimator, such as a decaying baseline
                store[name] = value
            elif name not in state["parameters"]:
                store._params[name].data.copy_(value)
        for name in averages() - state["store"].keys():  # they start at zero
            store._params[name].data.zero_()
    program.known = program.size()


def _match_late_parameters(program: Stateful, state: dict[str, Any]) -> None:
    """Add and remove parameters of the store, to match a state that has later ones."""
    store = pyro.get_param_store()
    late = state.get("constraints", {})  # absent from older checkpoints
    for name in program.late - late.keys():
        del store[name], program.parameters[name]
    for name in [n for n in late if n not in program.parameters]:
        value = state["parameters"][name].to(program.device, copy=True).requires_grad_()
        constraint = constraint_from(late[name])
        store.set_state({"params": {name: value}, "constraints": {name: constraint}})
        program.parameters[name] = value
    program.late = set(late)


def _constraint(name: str) -> Any:
    try:
        return describe_constraint(pyro.get_param_store()._constraints[name])
    except TypeError as error:
        raise UserError(
            f"parameter {name!r}, which appeared after the first batch, cannot be kept in a "
            f"checkpoint ({error}): call pyro.param for it in every batch"
        ) from error


def _refuse_others(program: Stateful, saved: dict[str, Any]) -> None:
    wrong = sorted(saved.keys() ^ program.parameters.keys()) or [
        n for n in saved if saved[n].shape != program.parameters[n].shape
    ]
    if wrong:
        raise UserError(
            f"the checkpoint is of another program: parameter {wrong[0]!r} differs; "
            "choose another directory for this one"
        )


def describe_constraint(thing: Any) -> Any:
    """A constraint of torch's or Pyro's as nested dicts and lists of tensors and numbers.

    Raises:
        TypeError: it is, or holds, an object of another type.
    """
    if isinstance(thing, PLAIN_TYPES):
        return thing
    if isinstance(thing, list | tuple):
        return [describe_constraint(item) for item in thing]
    if KINDS.get(type(thing).__name__) is type(thing):
        options = {name: describe_constraint(value) for name, value in vars(thing).items()}
        return {"kind": type(thing).__name__, "options": options}
    raise TypeError(f"{type(thing).__name__} is not a constraint of torch or Pyro")


def constraint_from(description: Any) -> Any:
    """Inverse of ``describe_constraint``."""
    if isinstance(description, list):
        return [constraint_from(item) for item in description]
    if not isinstance(description, dict):
        return description
    constraint = object.__new__(KINDS[description["kind"]])
    for name, value in description["options"].items():
        setattr(constraint, name, constraint_from(value))
    return constraint
