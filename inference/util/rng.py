"""All random generators of a process (torch, CUDA, Python, NumPy) as one state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import torch


def get_state() -> dict[str, Any]:
    """The states of all generators, in types that ``torch.load(weights_only=True)`` reads."""
    state: Any = np.random.get_state()
    name, keys, position, has_gauss, gauss = state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (str(name), keys.tolist(), int(position), int(has_gauss), float(gauss)),
    }


def set_state(state: dict[str, Any]) -> None:
    """Restore all generators from a ``get_state()``."""
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(state["numpy"])


def seed(seed: int, step: int = 0, rank: int = 0) -> None:
    """Seed all generators for a step and process; (seed, 0, 0) is ``seed`` itself."""
    if step or rank:
        seed = int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
    pyro.set_rng_seed(seed)


def non_torch_states() -> Any:
    """The states of the generators that are not torch's, for comparison."""
    state = get_state()
    return state["python"], state["numpy"]


@contextmanager
def forked(seed: int | None = None) -> Iterator[None]:
    """Restore all generators after the block; seed them before it, if a seed is given."""
    state = get_state()
    try:
        if seed is not None:
            pyro.set_rng_seed(seed)
        yield
    finally:
        set_state(state)


class Stream:
    """A stream of torch's random numbers, continued at each ``with stream:``.

    Args:
        device: whose generator belongs to the stream, beside the CPU's.
    """

    def __init__(self, device: torch.device) -> None:
        self.generators = [torch.default_generator]
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self.generators.append(torch.cuda.default_generators[index])
        self.keep()

    def keep(self) -> None:
        """Save the generators' current state, to continue from it next time."""
        self.states = [generator.get_state() for generator in self.generators]

    def __enter__(self) -> None:
        for generator, state in zip(self.generators, self.states, strict=True):
            generator.set_state(state)

    def __exit__(self, *error: object) -> None:
        self.keep()
