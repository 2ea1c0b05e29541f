"""All that a step changes in a program, as tensors by name, and how it is put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyro
import torch

from inference.engine.program.constraints import constraint_from, described
from inference.util.errors import UserError

if TYPE_CHECKING:
    from inference.engine.program.program import Program


def state_of(program: Program) -> dict[str, Any]:
    """Copies of parameters, buffers and the store; of later-born parameters, the constraints."""
    store = pyro.get_param_store()
    return {
        "parameters": {n: p.detach().clone() for n, p in program.parameters.items()},
        "buffers": {n: b.clone() for n, b in program.buffers()},
        "store": {n: store._params[n].detach().clone() for n in store},
        "constraints": {n: _constraint(n) for n in sorted(program.born)},
    }


def put_back(program: Program, state: dict[str, Any]) -> None:
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
    program.known = len(store)


def _bear(program: Program, state: dict[str, Any]) -> None:
    """Let those parameters be that were there: some of them later than the first batch."""
    store, born = pyro.get_param_store(), state["constraints"]
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


def _refuse_others(program: Program, saved: dict[str, Any]) -> None:
    wrong = sorted(saved.keys() ^ program.parameters.keys()) or [
        n for n in saved if saved[n].shape != program.parameters[n].shape
    ]
    if wrong:
        raise UserError(
            f"the checkpoint is of another program: parameter {wrong[0]!r} differs; "
            "choose another directory for this one"
        )
