"""What model and guide both compute is computed once.

A guide that runs the model's networks (attention, a shared encoder) makes a Pyro program run them
twice, forward and backward; written by hand, they run once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from inference.engine.capture.noise import NoiseRecorder

# of these, each call gives a tensor of its own (whose flag may be set), or is no computation
OWN = {"detach", "requires_grad_", "retain_grad", "register_hook", "__get__", "__set__"}
DIFFERENTIATE = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


class ChangedInPlaceError(RuntimeError):
    """What was computed once for two was then changed by one of them."""


class Sharing(TorchFunctionMode):
    """Within it, a function called again on the same tensors gives the same result, not a copy.

    Functions that draw, or change their arguments, are called as ever.  What is changed without
    torch's counting it (running statistics) goes wrong: check the result.

    Args:
        noise: tells which functions draw.
    """

    def __init__(self, noise: NoiseRecorder) -> None:
        super().__init__()
        self.noise = noise
        self.known: dict[Any, tuple[Any, list[Tensor], list[int]]] = {}
        self.shared: set[Any] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function's result, of now or of the first time."""
        kwargs = dict(kwargs or {})
        if func in DIFFERENTIATE and len(args) < 4:
            kwargs["retain_graph"] = True  # another gradient may go through what is shared
        arguments = list(tensors((args, kwargs)))
        if not arguments or func.__name__ in OWN:
            return func(*args, **kwargs)
        try:
            key = (func, torch.is_grad_enabled(), keyed(args), keyed(kwargs))
            found = self.known.get(key)
        except TypeError:  # an argument that cannot be compared
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
        """Raise a ``ChangedInPlaceError`` if anything was changed after it was shared."""
        for result, _, then in (self.known[key] for key in self.shared):
            if versions(result) != then:
                raise ChangedInPlaceError


def tensors(value: Any) -> Iterable[Tensor]:
    """Those in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def versions(value: Any) -> list[int]:
    """How often each was changed in place."""
    return [tensor._version for tensor in tensors(value)]


def is_tensors(value: Any) -> bool:
    """A tensor, or a tuple or list of nothing else."""
    several = isinstance(value, tuple | list)
    return isinstance(value, Tensor) or (several and all(isinstance(v, Tensor) for v in value))


def keyed(value: Any) -> Any:
    """Equal for equal arguments: tensors by identity and version, the rest by type and value."""
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, tuple | list):
        return type(value), tuple(keyed(item) for item in value)
    if isinstance(value, dict):
        return tuple((name, keyed(item)) for name, item in value.items())
    if isinstance(value, slice):
        return slice, keyed(value.start), keyed(value.stop), keyed(value.step)
    return type(value), value
