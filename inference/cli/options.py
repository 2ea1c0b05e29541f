"""The flags of ``compare`` and ``audit``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from inference.recipes.options import FiniteFloat, NonNegativeInt, Rule, Training


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


def audit_options(recipe: type[Training]) -> type[AuditOptions]:
    """The options dataclass of an audit of this recipe."""
    if issubclass(AuditOptions, recipe):  # the recipe adds none to ``Training``
        return AuditOptions
    both = type("Options", (recipe, AuditOptions), {"__doc__": AuditOptions.__doc__})
    return dataclass(frozen=True)(both)
