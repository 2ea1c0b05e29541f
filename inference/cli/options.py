"""The flags of ``compare`` and ``audit``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from inference.recipes.options import FiniteFloat, NonNegativeInt, PositiveInt, Rule, Training


@dataclass(frozen=True)
class CompareOptions:
    """Compare runs: which bound is better, by how much, and how sure that is.

    lowerbound compare runs/a runs/b --out runs/a-or-b
    """

    runs: Positional[tuple[Path, ...]]
    """Directories of two or more runs (or their trace.nc)."""
    out: Path = Path("runs/comparison")
    """Where comparison.png and comparison.nc go."""
    level: FiniteFloat | None = None
    """Time to reach this bound, nats per datum [the worst of the final bounds]."""
    under: str | None = None
    """ELBO, or L_K such as L_100: estimate this bound of all runs' held-out data."""
    recipe: str | None = None
    """With --under: the file of a recipe of yours that the runs are of."""


@dataclass(frozen=True)
class PosteriorOptions:
    """Draw from a run's guide: ArviZ's groups, added to its trace.nc.

    lowerbound posterior runs/vae --draws 200 --rows 100
    """

    run: Positional[Path]
    """Directory of a run."""
    draws: PositiveInt = 1000
    """Draws from the guide."""
    rows: PositiveInt | None = None
    """The first so many rows of the data alone [all]."""
    held_out: bool = False
    """Of the held-out data, not of those trained on."""
    seed: NonNegativeInt | None = None
    """Which of the run's seeds [the first]."""
    assign: bool = False
    """Also draw the latents that were summed out."""
    recipe: str | None = None
    """The file of a recipe of yours that the run is of."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class AuditOptions(Training):
    """Bias, variance and cost of gradient estimators on a recipe's program."""

    estimators: tuple[str, ...] = (
        *("Trace_ELBO", "DecayingAverage", "Pathwise", "ScoreFunction", "LeaveOneOut:4"),
        *("ARM", "DisARM", "REBAR", "GumbelSoftmax", "VIMCO:5"),
    )
    """Names, with :K for K particles; those that refuse the program are left out."""
    samples: Annotated[int, Rule(lambda n: n >= 2, "at least 2, for a variance")] = 200
    """Gradients drawn from each estimator."""
    at: tuple[NonNegativeInt, ...] = (0,)
    """Numbers of training steps after which to measure."""


@dataclass(frozen=True)
class SweepOptions(Training):
    """A recipe's runs over a grid: options may have several values; runs are compared.

    The same command goes on with runs that were stopped.
    """

    jobs: PositiveInt = 2
    """Runs at a time, each in a process of its own."""


def swept(recipe: type[Training]) -> dict[str, object]:
    """Option → type, of those that a sweep takes several values of: single numbers and words."""
    hints = get_type_hints(recipe, include_extras=True)
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(recipe)
        if field.name not in ("seeds", "device") and _is_single(hints[field.name])
    }


def _is_single(hint: object) -> bool:
    parts = {part for part in _parts(hint) if isinstance(part, type)}
    return not parts & {bool, tuple, Path} and bool(parts or "Literal" in str(hint))


def _parts(hint: object) -> Iterator[object]:
    yield get_origin(hint) or hint
    for part in get_args(hint):
        yield from _parts(part)


def sweep_options(recipe: type[Training]) -> type[SweepOptions]:
    """The options dataclass of a sweep of this recipe: tuples where it has single values."""
    bases = (SweepOptions,) if issubclass(SweepOptions, recipe) else (recipe, SweepOptions)
    defaults = {f.name: f.default for f in dataclasses.fields(recipe)}
    types = swept(recipe)
    fields = {name: (defaults[name],) for name in types}
    annotations = {name: tuple[hint, ...] for name, hint in types.items()}  # type: ignore[valid-type]
    about = {"__doc__": SweepOptions.__doc__, "__annotations__": annotations, **fields}
    return dataclass(frozen=True)(type("Options", bases, about))


def audit_options(recipe: type[Training]) -> type[AuditOptions]:
    """The options dataclass of an audit of this recipe."""
    if issubclass(AuditOptions, recipe):  # the recipe adds none to ``Training``
        return AuditOptions
    both = type("Options", (recipe, AuditOptions), {"__doc__": AuditOptions.__doc__})
    return dataclass(frozen=True)(both)
