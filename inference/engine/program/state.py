"""The parameters of a program, and all that a step changes in it: as tensors by name, and back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import pyro
import torch
from pyro.distributions import constraints as pyro_constraints
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.distributions import constraints as torch_constraints
from torch.distributions.constraints import Constraint

from inference.util.errors import UserError

Callee = Callable[..., Any]
ESTIMATORS = "__baseline_avg"  # what Pyro's estimators keep in the store
PLAIN = (bool, int, float, str, type(None), Tensor)
KINDS: dict[str, type[Constraint]] = {
    kind.__name__: kind
    for source in (torch_constraints, pyro_constraints)
    for kind in vars(source).values()
    if inspect.isclass(kind) and issubclass(kind, Constraint)
}


class Stateful(Protocol):
    """What a program's state is made of; see ``Program``."""

    parameters: dict[str, Tensor]
    born: set[str]
    known: int
    device: torch.device

    def buffers(self) -> Iterator[tuple[str, Tensor]]:
        """By name, living."""


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


def averages() -> set[str]:
    """Names in Pyro's store of what its estimators keep there, decaying baselines."""
    return {name for name in pyro.get_param_store() if name.startswith(ESTIMATORS)}


@contextmanager
def averages_in_place() -> Iterator[None]:
    """What a run writes anew in the store, as Pyro's decaying baselines, it changes in place."""
    store = pyro.get_param_store()
    before = {name: store._params[name] for name in averages()}
    yield
    with torch.no_grad():
        for name, living in before.items():
            if (new := store._params[name]) is not living:
                living.copy_(new)
                store[name] = living


def state_of(program: Stateful) -> dict[str, Any]:
    """Copies of parameters, buffers and the store; of later-born parameters, the constraints."""
    store = pyro.get_param_store()
    return {
        "parameters": {n: p.detach().clone() for n, p in program.parameters.items()},
        "buffers": {n: b.clone() for n, b in program.buffers()},
        "store": {n: store._params[n].detach().clone() for n in store},
        "constraints": {n: _constraint(n) for n in sorted(program.born)},
    }


def put_back(program: Stateful, state: dict[str, Any]) -> None:
    """Copy a state into the living tensors.

    Raises:
        UserError: it is of a program with other parameters.
    """
    _bear(program, state)
    _refuse_others(program, state["parameters"])
    buffers, store = dict(program.buffers()), pyro.get_param_store()
    with torch.no_grad():
        for living, kept in (
            (program.parameters, state["parameters"]),
            (buffers, state["buffers"]),
        ):
            for name, value in kept.items():
                living[name].copy_(value)
        for name, value in state["store"].items():
            if name not in store:  # an estimator's own, such as a decaying baseline
                store[name] = value
            elif name not in state["parameters"]:
                store._params[name].data.copy_(value)
        for name in averages() - state["store"].keys():  # they start at zero
            store._params[name].data.zero_()
    program.known = len(store)


def _bear(program: Stateful, state: dict[str, Any]) -> None:
    """Let those parameters be that were there: some of them later than the first batch."""
    store = pyro.get_param_store()
    born = state.get("constraints", {})  # older checkpoints have none
    for name in program.born - born.keys():
        del store[name], program.parameters[name]
    for name in [n for n in born if n not in program.parameters]:
        value = state["parameters"][name].to(program.device, copy=True).requires_grad_()
        constraint = constraint_from(born[name])
        store.set_state({"params": {name: value}, "constraints": {name: constraint}})
        program.parameters[name] = value
    program.born = set(born)


def _constraint(name: str) -> Any:
    try:
        return described(pyro.get_param_store()._constraints[name])
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
