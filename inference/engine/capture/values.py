"""Reading of tensors' values in a captured program: allowed for constants alone.

A constant is computed from numbers in the program's code alone: ``torch.arange(3)``, the index of a
sequential plate, a triangular mask.  It is the same at every call, so that the graph may depend on
its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from inference.engine.capture.refusal import DependsOnValuesError
from inference.engine.capture.sharing import tensors

aten = torch.ops.aten
READING = {Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__format__}
COPYING = {torch.tensor, torch.as_tensor, Tensor.new_tensor}  # read the values of a list of tensors
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
PACK = aten._pack_padded_sequence.default  # reads its lengths


class NoValueReads(TorchDispatchMode):
    """Makes operations that read values, or whose result's shape depends on values, errors.

    Attributes:
        constants: address of a constant's storage → a tensor that keeps it alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self.constants: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, unless it reads values of a tensor that is not constant."""
        kwargs = kwargs or {}
        if func.overloadpacket in INDEXED:
            args = (args[0], self._without_masks(args[1]), *args[2:])
        found = list(tensors((args, kwargs)))
        fixed = torch.Tag.nondeterministic_seeded not in func.tags
        fixed = fixed and (func is aten.lift_fresh.default or all(map(self.knows, found)))
        if reads_values(func, args):
            return self._noted(fixed, self._read(fixed, func, args, kwargs))
        if func._schema.is_mutable and not fixed:
            for tensor in found:
                self.constants.pop(address(tensor), None)
        return self._noted(fixed, func(*args, **kwargs))

    def knows(self, tensor: Tensor) -> bool:
        """Whether the tensor is a constant."""
        return address(tensor) in self.constants

    def _noted(self, fixed: bool, result: Any) -> Any:
        if fixed:
            self.constants |= {address(tensor): tensor for tensor in tensors(result)}
        return result

    def _read(self, fixed: bool, func: Any, args: Any, kwargs: Any) -> Any:
        if not fixed:
            raise DependsOnValuesError(str(func))
        with disable_proxy_modes_tracing():
            return func(*args, **kwargs)

    def _without_masks(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Constant masks as the integers that select the same."""
        found: list[Tensor | None] = []
        for index in indices:
            if index is not None and is_mask(index) and self.knows(index):
                with disable_proxy_modes_tracing():
                    found += index.nonzero().unbind(1)
            else:
                found.append(index)
        return found


def address(tensor: Tensor) -> int:
    """The address of the tensor's storage; 0 for sparse tensors."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else 0


def is_mask(index: Tensor) -> bool:
    """Whether an index is a mask, not integers."""
    return index.dtype in (torch.bool, torch.uint8)


def reads_values(func: Any, args: Any) -> bool:
    """Whether the operation reads values on the host, for its result or its result's shape."""
    if func is aten.index.Tensor:  # with integers, the shape is the indices'
        return any(index is not None and is_mask(index) for index in args[1])
    return func is PACK or not READS.isdisjoint(func.tags)


class ItemsAsTensors(TorchFunctionMode):
    """Replaces functions that read values by ones that do not, where possible.

    ``item`` gives a tensor, for a constant the number; ``one_hot`` does not check its argument;
    ``table[k]`` accepts a tensor k; ``x[mask]`` may only be assigned to the same part of another
    tensor, ``y[mask] = x[mask]``.  Reading values in a way that torch's dispatcher does not see is
    an error.
    """

    def __init__(self, values: NoValueReads) -> None:
        super().__init__()
        self.values = values

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function, or a variant that reads no values."""
        kwargs = kwargs or {}
        if func is Tensor.__setitem__ and isinstance(args[2], Part):
            return args[2].put(args[0], args[1])
        if any(issubclass(kind, Part) for kind in types):
            raise DependsOnValuesError(func.__name__)
        if func is Tensor.item and not self.values.knows(args[0]):
            return args[0].detach()
        if not all(map(self.values.knows, read(func, (*args, *kwargs.values())))):
            raise DependsOnValuesError(func.__name__)
        if func is Tensor.__getitem__:
            return self._item(*args)
        if func is torch.nn.functional.one_hot:
            return one_hot(*args, **kwargs)
        return func(*args, **kwargs)

    def _item(self, tensor: Tensor, index: Any) -> Any:
        if isinstance(index, Tensor) and is_mask(index) and not self.values.knows(index):
            return Part(tensor, index)
        return at_drawn_places(tensor, index if isinstance(index, tuple) else (index,))


class Part:
    """The elements that a mask selects, of unknown number.

    Args:
        tensor: (…)
        mask: (…) over the first dimensions.
    """

    def __init__(self, tensor: Tensor, mask: Tensor) -> None:
        self.tensor, self.mask = tensor, mask

    def put(self, other: Tensor, mask: Any) -> None:
        """``other[mask] = tensor[mask]``."""
        if mask is not self.mask or other.shape != self.tensor.shape:
            raise DependsOnValuesError("a mask")
        where = mask.bool().reshape(*mask.shape, *[1] * (other.dim() - mask.dim()))
        other.copy_(torch.where(where, self.tensor, other))

    def __getattr__(self, name: str) -> Any:
        raise DependsOnValuesError(name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse the part as an argument of any function."""
        raise DependsOnValuesError(func.__name__)


def at_drawn_places(tensor: Tensor, index: tuple[Any, ...]) -> Tensor:
    """``tensor[index]``, where integer tensors () may be used as integers."""
    if not any(map(is_place, index)):
        return tensor[index]
    dims = tensor.dim() - sum(consumed(i) for i in index if i is not ...)
    dim, plain = 0, []
    for i in index:
        if is_place(i):
            at = torch.where(i < 0, i + tensor.shape[dim], i)
            tensor = tensor.index_select(dim, at.reshape(1).long())
        plain.append(0 if is_place(i) else i)
        dim += dims if i is ... else consumed(i)
    return tensor[tuple(plain)]


def read(func: Any, arguments: Sequence[Any]) -> list[Tensor]:
    """The tensors whose values a function reads without the dispatcher."""
    if func in READING:
        return [arguments[0]]
    lists = [a for a in arguments if func in COPYING and isinstance(a, list | tuple)]
    return list(tensors(lists))


def is_place(index: Any) -> bool:
    """Whether an index is an integer tensor ()."""
    numbers = isinstance(index, Tensor) and index.dim() == 0 and not is_mask(index)
    return numbers and not index.is_floating_point()


def consumed(index: Any) -> int:
    """The number of a tensor's dimensions that an index consumes."""
    if index is None or isinstance(index, bool):
        return 0
    return index.dim() if isinstance(index, Tensor) and is_mask(index) else 1


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """``torch.nn.functional.one_hot`` for a given number of classes, values not checked."""
    if num_classes < 0:
        num_classes = int(tensor.max()) + 1  # refused, unless it is a constant
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()
