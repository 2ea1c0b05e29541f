"""Caches of transforms, which are keyed by tensor identity and outlive the autograd graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import Tensor
from torch.distributions import Transform

CALLS = ("__call__", "_inv_call")


class Caches:
    """Limits the cache of a transform's last (x, y) to one run of a program.

    A flow (``TransformedDistribution``) needs the cache to score its own draws.  Kept from one run
    to the next it is wrong wherever the same tensor comes again, as data in full batches do: it
    holds values of the parameters before the last step, a freed graph, or, after a run without
    gradients, no graph at all, so that the flow would never be trained.
    """

    def __init__(self) -> None:
        self.used: dict[int, Transform] = {}

    def forget(self) -> None:
        """Begin a run: clear the caches of all transforms used so far."""
        for transform in self.used.values():
            clear(transform)
        self.used.clear()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Records the transforms used within, and clears each cache at first use."""
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
    """Clear one cache, by the method that Pyro adds to torch's transforms."""
    transform.clear_cache()
