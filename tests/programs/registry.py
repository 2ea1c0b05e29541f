"""What a program of the catalogue is, and the list of all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor, nn


@dataclass(frozen=True)
class Made:
    """One fresh copy of a program.

    Attributes:
        model, guide: as a user would hand them to ``pyro.infer.SVI``.
        data: column name → tensor (N, …), made up.
        modules: whatever holds the program's weights and buffers.
    """

    model: Callable
    guide: Callable
    data: dict[str, Tensor]
    modules: tuple[nn.Module, ...] = ()


@dataclass(frozen=True)
class Program:
    """A program of the catalogue.

    Attributes:
        make: builds it anew; initial weights come from the global generator, data from their own.
        elbo: → the Pyro estimator that it is trained with.
        batch_size: rows a step; None for all.
        other_noise: whether a captured step draws its noise in another order than Pyro does: what
            a rejection sampler (gamma, beta, Dirichlet) draws comes after all else.
    """

    name: str
    make: Callable[[], Made]
    elbo: Callable[[], ELBO] = Trace_ELBO
    batch_size: int | None = None
    other_noise: bool = False

    @property
    def family(self) -> str:
        """The file it stands in."""
        return self.make.__module__.rpartition(".")[2]

    @property
    def title(self) -> str:
        """Its docstring's first line."""
        return (self.make.__doc__ or "").strip().splitlines()[0].rstrip(".")


PROGRAMS: dict[str, Program] = {}


def program(
    elbo: Callable[[], ELBO] = Trace_ELBO,
    batch_size: int | None = None,
    other_noise: bool = False,
) -> Callable:
    """Register the decorated function, which returns (model, guide, data, modules …), by name."""

    def register(make: Callable) -> Callable:
        def made() -> Made:
            model, guide, data, *modules = make()
            return Made(model, guide, data, tuple(modules))

        made.__doc__, made.__module__ = make.__doc__, make.__module__
        PROGRAMS[make.__name__] = Program(make.__name__, made, elbo, batch_size, other_noise)
        return make

    return register


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers (…) that are the same every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Numbers in [0, 1) (…) that are the same every time."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
