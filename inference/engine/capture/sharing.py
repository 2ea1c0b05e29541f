"""Common subexpressions of model and guide are computed once.

Where a guide runs the model's networks (attention, a shared encoder), Pyro runs them twice, forward
and backward; code written by hand runs them once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from inference.engine.capture.noise import NoiseRecorder

# each call must give a new tensor (whose flag may be set), or computes nothing
OWN = {"detach", "requires_grad_", "retain_grad", "register_hook", "__get__", "__set__"}
DIFFERENTIATE = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


class ChangedInPlaceError(RuntimeError):
    """A result shared by several calls was changed in place."""


class Sharing(TorchFunctionMode):
    """Within it, a function called again on the same tensors returns the first call's result.

    Functions that draw, or change their arguments, are not shared.  In-place changes that torch
    does not count (running statistics) are not seen: check the result.

    Args:
        noise: counts random operations, by which functions that draw are known.
    """

    def __init__(self, noise: NoiseRecorder) -> None:
        super().__init__()
        self.noise = noise
        self.known: dict[Any, tuple[Any, list[Tensor], list[int]]] = {}
        self.shared: set[Any] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function's result, from this or an earlier call."""
        kwargs = dict(kwargs or {})
        if func in DIFFERENTIATE and len(args) < 4:
            kwargs["retain_graph"] = True  # a later gradient may pass through a shared result
        arguments = list(tensors((args, kwargs)))
        if not arguments or func.__name__ in OWN:
            return func(*args, **kwargs)
        try:
            key = (func, torch.is_grad_enabled(), keyed(args), keyed(kwargs))
            found = self.known.get(key)
        except TypeError:  # an argument that has no key
            return func(*args, **kwargs)
        if found is not None and versions(found[0]) == found[2]:
            self.shared.add(key)
            return found[0]
        drawn, before = self.noise.count, versions(arguments)
        result = func(*args, **kwargs)
        if drawn == self.noise.count and before == versions(arguments) and is_tensors(result):
            self.known[key] = (result, arguments, versions(result))
        return result

    def refuse_changes(self) -> None:
        """Raise a ``ChangedInPlaceError`` if a shared result was changed since."""
        for result, _, then in (self.known[key] for key in self.shared):
            if versions(result) != then:
                raise ChangedInPlaceError


def tensors(value: Any) -> Iterable[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def versions(value: Any) -> list[int]:
    """How often each tensor was changed in place."""
    return [tensor._version for tensor in tensors(value)]


def is_tensors(value: Any) -> bool:
    """Whether it is a tensor, or a tuple or list of tensors alone."""
    several = isinstance(value, tuple | list)
    return isinstance(value, Tensor) or (several and all(isinstance(v, Tensor) for v in value))


def keyed(value: Any) -> Any:
    """A key of arguments: tensors by identity and version, the rest by type and value."""
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, tuple | list):
        return type(value), tuple(keyed(item) for item in value)
    if isinstance(value, dict):
        return tuple((name, keyed(item)) for name, item in value.items())
    if isinstance(value, slice):
        return slice, keyed(value.start), keyed(value.stop), keyed(value.step)
    return type(value), value
