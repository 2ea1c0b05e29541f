"""Names that netCDF, ``xarray.DataTree`` and ArviZ can hold, for those that Pyro allows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inference.data.columns import Batch
from inference.engine.program.program import Program
from inference.results.draws.sampler import Sampler, looking

RESERVED = ("chain", "draw")  # ArviZ's dimensions


@dataclass(frozen=True)
class Names:
    """A program's names → those in the trace.

    Attributes:
        sites: of variables; never one of a dimension.
        plates: of dimensions.
    """

    sites: Mapping[str, str]
    plates: Mapping[str, str]

    @staticmethod
    def of(sites: Iterable[str], plates: Iterable[str]) -> Names:
        """Names unchanged where they can be."""
        dims = unlike(sorted(plates), RESERVED)
        return Names(unlike(sorted(sites), (*RESERVED, *dims.values())), dims)

    def changed(self) -> dict[str, str]:
        """Those that differ."""
        pairs = (*self.plates.items(), *self.sites.items())
        return {name: new for name, new in pairs if name != new}


def unlike(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Each name writable, and unlike the others and those taken."""
    names = list(names)
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda n: writable(n) != n):  # those that can stay come first
        new = writable(name)
        while new in taken or new in found.values():
            new += "_"
        found[name] = new
    return found


def writable(name: str) -> str:
    """Without what netCDF takes for a path, and not empty."""
    return name.replace("/", ".").replace("\0", "").strip().strip(".") or "_"


def warn_of_changed_names(program: Program, batch: Batch) -> None:
    """Say, before training, which of a program's names will be others in its trace."""
    with looking(program):
        _, single = Sampler(program).single(batch)
    sites = [(n, s) for side in (single.guide, single.model) for n, s in side.items()]
    names = Names.of({n for n, _ in sites}, {p for _, s in sites for p in s.plate_names})
    for name, new in names.changed().items():
        warnings.warn(
            f"{name!r} is written as {new!r} in the trace, where a name is no path and none of "
            "ArviZ's dimensions",
            UserWarning,
            stacklevel=3,
        )
