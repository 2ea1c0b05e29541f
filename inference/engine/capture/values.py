"""What a captured program may read of tensors: the values of constants, and no others.

A constant is computed from nothing but numbers that stand in the program: ``torch.arange(3)``, the
index of a sequential plate, the mask of a triangle.  It is the same at every call, so that its
value may choose the graph.
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
COPYING = {torch.tensor, torch.as_tensor, Tensor.new_tensor}  # they read a list of tensors
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
PACK = aten._pack_padded_sequence.default  # its lengths are read


class NoValueReads(TorchDispatchMode):
    """Within it, it is an error to read values, also by a result whose shape depends on them.

    Attributes:
        constants: address of a storage → a tensor that keeps it alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self.constants: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, unless it is one of those."""
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
        """Whether it is a constant."""
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
    """Of its storage; 0 where it has none (it is sparse)."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else 0


def is_mask(index: Tensor) -> bool:
    """Whether it selects by truth, not by place."""
    return index.dtype in (torch.bool, torch.uint8)


def reads_values(func: Any, args: Any) -> bool:
    """Whether the result, or its shape, depends on values as no operation of a graph may."""
    if func is aten.index.Tensor:  # by integers, its shape is theirs
        return any(index is not None and is_mask(index) for index in args[1])
    return func is PACK or not READS.isdisjoint(func.tags)


class ItemsAsTensors(TorchFunctionMode):
    """Within it, functions that would read values do without where they can.

    ``item`` gives a tensor, not a number (of a constant, the number); ``one_hot`` trusts its
    argument; a place in a tensor may be drawn, ``table[k]``; a part of a tensor by a mask may be
    put into the same part of another, ``y[mask] = x[mask]``, and is an error everywhere else.
    Ways past torch's dispatcher to a tensor's values are errors.
    """

    def __init__(self, values: NoValueReads) -> None:
        super().__init__()
        self.values = values

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function, or one that reads no values."""
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
    """What a mask selects, of a size that nobody knows.

    Args:
        tensor: (…)
        mask: (…) its first dimensions.
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
        """Of no function an argument."""
        raise DependsOnValuesError(func.__name__)


def at_drawn_places(tensor: Tensor, index: tuple[Any, ...]) -> Tensor:
    """``tensor[index]``, in which integer tensors () may stand for integers."""
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
    """The tensors whose values a function reads behind the dispatcher's back."""
    if func in READING:
        return [arguments[0]]
    lists = [a for a in arguments if func in COPYING and isinstance(a, list | tuple)]
    return list(tensors(lists))


def is_place(index: Any) -> bool:
    """Whether this is an integer tensor ()."""
    numbers = isinstance(index, Tensor) and index.dim() == 0 and not is_mask(index)
    return numbers and not index.is_floating_point()


def consumed(index: Any) -> int:
    """How many of a tensor's dimensions an index is for."""
    if index is None or isinstance(index, bool):
        return 0
    return index.dim() if isinstance(index, Tensor) and is_mask(index) else 1


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """``torch.nn.functional.one_hot`` where the number of classes is given."""
    if num_classes < 0:
        num_classes = int(tensor.max()) + 1  # refused, unless it is a constant
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()
