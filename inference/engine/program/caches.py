"""Caches of transforms, which go by a tensor's identity and outlive the graph they were made in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import Tensor
from torch.distributions import Transform

CALLS = ("__call__", "_inv_call")


class Caches:
    """Lets a transform remember its last (x, y) within one run of a program, and no longer.

    A flow (``TransformedDistribution``) needs that memory to score its own draws.  Kept from one
    run to the next it is wrong wherever the same tensor comes again, as data in full batches do:
    values of the parameters before the last step, a graph that is gone, or, after a run without
    gradients, no graph at all, so that the flow would never be trained.
    """

    def __init__(self) -> None:
        self.used: dict[int, Transform] = {}

    def forget(self) -> None:
        """Begin a run: every transform that was used forgets."""
        for transform in self.used.values():
            clear(transform)
        self.used.clear()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within it, transforms that are used are noted, and forget what was before."""
        calls = {name: self._noting(getattr(Transform, name)) for name in CALLS}
        try:
            with mock.patch.multiple(Transform, **calls):
                yield
        finally:
            self.forget()

    def _noting(self, call: Callable[[Transform, Tensor], Any]) -> Any:
        def noted(transform: Transform, argument: Tensor) -> Any:
            if transform._cache_size and id(transform) not in self.used:
                clear(transform)
                self.used[id(transform)] = transform
            return call(transform, argument)

        return noted


def clear(transform: Any) -> None:
    """By the method that Pyro gives to torch's transforms."""
    transform.clear_cache()
