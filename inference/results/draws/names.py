"""Maps names of sites and plates to names that netCDF, ``xarray.DataTree`` and ArviZ accept."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inference.data.columns import Batch
from inference.engine.program.program import Program
from inference.results.draws.sampler import isolated
from inference.util.sites import sample_sites

RESERVED = ("chain", "draw")  # ArviZ's dimensions


@dataclass(frozen=True)
class Names:
    """A program's names → names in the trace.

    Attributes:
        sites: site → variable; never the name of a dimension.
        plates: plate → dimension.
    """

    sites: Mapping[str, str]
    plates: Mapping[str, str]

    @staticmethod
    def of(sites: Iterable[str], plates: Iterable[str]) -> Names:
        """Names for these sites and plates, unchanged where possible."""
        dims = unlike(sorted(plates), RESERVED)
        return Names(unlike(sorted(sites), (*RESERVED, *dims.values())), dims)

    def changed(self) -> dict[str, str]:
        """The names that differ."""
        pairs = (*self.plates.items(), *self.sites.items())
        return {name: new for name, new in pairs if name != new}


def unlike(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Make each name valid and unique, also among those taken."""
    names = list(names)
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda n: writable(n) != n):  # unchanged names have precedence
        new = writable(name)
        while new in taken or new in found.values():
            new += "_"
        found[name] = new
    return found


def writable(name: str) -> str:
    """The name without slashes, which netCDF takes for paths, and not empty."""
    return name.replace("/", ".").replace("\0", "").strip().strip(".") or "_"


def warn_of_changed_names(program: Program, batch: Batch) -> None:
    """Warn, before training, of names that are changed in the trace."""
    with isolated(program):
        sites = sample_sites(program.traces(batch)[0])
    plates = {f.name for site in sites.values() for f in site["cond_indep_stack"]}
    names = Names.of(sites, plates)
    if changed := names.changed():
        pairs = ", ".join(f"{name!r} as {new!r}" for name, new in changed.items())
        warnings.warn(
            f"the trace holds {pairs}: there a name has no slash and is none of ArviZ's dimensions",
            UserWarning,
            stacklevel=3,
        )
