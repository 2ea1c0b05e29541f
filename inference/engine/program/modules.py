"""The modules of a program, wherever model and guide keep them, and their evaluation mode."""

from __future__ import annotations

import dis
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from inference.estimators.programs import StochasticFunction

CLOSED = (Tensor, ModuleType, type, str, bytes, int, float, complex, BuiltinMethodType, type(None))


def modules_of(**callees: StochasticFunction) -> dict[str, nn.Module]:
    """Name → module of all modules that the callables (by role) use, each once.

    A callable that is a module, or a bound method of one, is named by its role.  Modules are also
    found in the arguments of ``functools.partial``, in closures and default arguments, behind
    global names that a function reads (in the file that defines it), in the attributes of objects
    and in lists and dicts: ``model.decoder``, ``guide.nets.0``.  A submodule of a found module is
    not listed; the model of an autoguide is listed as the guide's.
    """
    found: dict[str, nn.Module] = {}
    inside: set[int] = set()
    for role, callee in callees.items():
        for name, module in _search(role, callee, set()):
            if id(module) not in inside:
                found[name] = module
                inside.update(map(id, module.modules()))
    return found


def constrained(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Name → value of every ``PyroParam``."""
    return {
        f"{path}.{name}": getattr(module, name)
        for root, top in modules.items()
        for path, module in top.named_modules(prefix=root)
        for name in getattr(module, "_pyro_params", ())
    }


def _search(name: str, thing: Any, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Modules within an object, outermost first; ``seen`` holds objects already searched."""
    if isinstance(thing, CLOSED) or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        yield name, thing
    for part_name, part in _parts(name, thing):
        yield from _search(part_name, part, seen)


def _parts(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """The objects that an object refers to, by name; a wrapper's content has the wrapper's name."""
    if isinstance(thing, MethodType):
        yield name, thing.__self__
        yield name, thing.__func__
    elif isinstance(thing, functools.partial):
        yield name, thing.func
        yield from _items(name, dict(enumerate(thing.args)) | thing.keywords)
    elif isinstance(thing, FunctionType):
        yield from _items(name, _read_by(thing))
    elif isinstance(thing, Mapping):
        yield from _items(name, thing)
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from _items(name, dict(enumerate(thing)))
    else:
        yield from _items(name, _attributes(thing))


def _items(name: str, things: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{name}.{key}", thing) for key, thing in list(things.items()))


def _attributes(thing: Any) -> dict[str, Any]:
    """An object's attributes; of a module, without parameters, buffers and submodules."""
    own = dict(getattr(thing, "__dict__", {}))
    if isinstance(thing, nn.Module):
        own = {n: a for n, a in own.items() if not n.startswith("_") and n != "prototype_trace"}
    if isinstance(thing, AutoGuide) and thing.master is None:
        own["model"] = thing.model
    return own


def _read_by(function: FunctionType) -> dict[str, Any]:
    """The objects that a function reads by name: closure, defaults, globals of its file."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = {name: _content(cell) for name, cell in cells}
    defaults = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
    around = function.__globals__
    names = dict.fromkeys(_global_names(function.__code__))
    found = {n: around[n] for n in names if n in around and _is_of(around, around[n])}
    return {str(n): thing for n, thing in (defaults | found | closure).items()}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # an empty closure cell
        return None


def _global_names(code: CodeType) -> Iterator[str]:
    yield from (i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _is_of(file: Mapping[str, Any], thing: Any) -> bool:
    """Whether a global is a module, a container, or defined in the file that reads it."""
    if isinstance(thing, nn.Module | list | tuple | dict | functools.partial):
        return True
    if isinstance(thing, FunctionType):
        return thing.__globals__ is file
    owner = thing.__self__ if isinstance(thing, MethodType) else thing
    return isinstance(owner, nn.Module) or type(owner).__module__ == file.get("__name__")


@contextmanager
def evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    """No autograd graph, modules in ``eval()`` mode, buffers restored on exit."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad(), untouched(modules):
            yield
    finally:
        for part, training in before:
            part.training = training


@contextmanager
def untouched(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Restores the modules' buffers (a running mean, a codebook) on exit."""
    parts = [part for module in modules for part in module.modules()]
    living = [(part, name, b) for part in parts for name, b in part._buffers.items()]
    kept = [(at, n, b, b.clone()) for at, n, b in living if b is not None and not is_lazy(b)]
    try:
        yield
    finally:
        with torch.no_grad():
            for part, name, buffer, value in kept:
                part._buffers[name] = buffer.copy_(value)
