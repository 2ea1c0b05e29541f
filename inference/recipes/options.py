"""The flags that every recipe has, and the types of flags; does not import torch.

Types state the range of a number (``PositiveInt``), and ``MayChange`` marks options that do not
identify a fit: they may differ when it is resumed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar, get_args, get_type_hints

from inference.util.errors import UserError

T = TypeVar("T")


class Rule(NamedTuple):
    """The range of a number, within an ``Annotated`` type."""

    holds: Callable[[float], bool]
    remedy: str


PositiveInt = Annotated[int, Rule(lambda n: n >= 1, "at least 1")]
NonNegativeInt = Annotated[int, Rule(lambda n: n >= 0, "0 or more")]
PositiveFloat = Annotated[float, Rule(lambda x: 0 < x < math.inf, "a finite number above 0")]
NonNegativeFloat = Annotated[float, Rule(lambda x: 0 <= x < math.inf, "a finite number from 0 on")]
FiniteFloat = Annotated[float, Rule(math.isfinite, "a finite number")]
Share = Annotated[float, Rule(lambda x: 0 <= x <= 1, "a share from 0 to 1")]
ImageRange = tuple[FiniteFloat, FiniteFloat] | None
MAY_CHANGE = "may change when a fit is resumed"
MayChange = Annotated[T, MAY_CHANGE]
NAMES_CODE = "may name code to be run"

AUTO = "auto"
EstimatorName = Literal[
    "auto",
    "Trace_ELBO",
    "TraceMeanField_ELBO",
    "TraceGraph_ELBO",
    "TraceEnum_ELBO",
    "DecayingAverage",
    "Pathwise",
    "ScoreFunction",
    "LeaveOneOut",
    "VarGrad",
    "ARM",
    "DisARM",
    "ARMS",
    "CARMS",
    "Marginal",
    "CoupledDifference",
    "REBAR",
    "GumbelSoftmax",
    "GumbelRao",
    "ReinMax",
    "IWAE",
    "DReG",
    "VIMCO",
    "OVIS",
    "ReweightedWakeSleep",
]


@dataclass(frozen=True)
class Training:
    """How to train; every recipe's ``Options`` inherits these flags and may change defaults."""

    epochs: PositiveInt = 20
    """Passes over the training data."""
    batch_size: PositiveInt | None = 128
    """Rows a step; None for all of them."""
    learning_rate: NonNegativeFloat = 1e-3
    """Largest learning rate of Adam."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Schedule of the learning rate."""
    estimator: EstimatorName = "Trace_ELBO"
    """Gradient estimator, one of Pyro's (…_ELBO) or of inference.estimators; auto measures first
    which is best."""
    particles: PositiveInt = 1
    """Draws from the guide a step."""
    anneal: Share = 0.0
    """Fraction of training over which the KL's weight grows from 0 to 1."""
    clip_norm: PositiveFloat | None = None
    """Clip the gradient to this global norm."""
    patience: PositiveInt | None = None
    """Stop after so many epochs without a better held-out bound, and keep the best."""
    until: Literal["converged"] | None = None
    """converged: stop when the parameters have settled, and keep their mean; at most --epochs."""
    seeds: PositiveInt = 1
    """Number of trainings, with different initial values and noise."""
    device: MayChange[str] = "cpu"
    """cpu, cuda or cuda:N."""
    precision: Literal["float32", "float64", "bf16-mixed"] = "float32"
    """Floating-point precision."""
    compile: bool = False
    """Capture the step as a graph and compile it: the same numbers, faster after a minute."""
    seeds_at_once: bool = False
    """With --compile: train all seeds as one vectorised program."""
    out: MayChange[Path | None] = None
    """The run's directory [runs/RECIPE]."""
    resume: MayChange[bool] = False
    """Resume the fit in the directory, if any; its options must be the same, but for more epochs
    or seeds."""
    extend: MayChange[bool] = False
    """With --resume: take more epochs also where --schedule or --anneal depend on their number."""
    overwrite: MayChange[bool] = False
    """Replace the fit in the directory."""


@dataclass(frozen=True)
class WithBaseline(Training):
    """Training with the option of a baseline for ``ScoreFunction``."""

    baseline: Literal["none", "average", "neural"] = "none"
    """For ScoreFunction: none, a moving average, or NVIL's network with variance normalisation."""


def refuse_impossible(options: object) -> None:
    """Check an options dataclass against the rules in its fields' types.

    Raises:
        UserError: a number is out of its flag's range.
    """
    for name, hint in _hints(type(options)).items():
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            for rule in _annotations(hint):
                if isinstance(rule, Rule) and number is not None and not rule.holds(number):
                    flag = "--" + name.replace("_", "-")
                    raise UserError(f"{flag} is {number}: give {rule.remedy}")


def recipe_identity(name: str, options: Training) -> dict[str, object]:
    """The recipe's name and the options that identify a fit, as plain JSON types."""
    fixed = {
        field: getattr(options, field)
        for field, hint in _hints(type(options)).items()
        if MAY_CHANGE not in _annotations(hint)
    }
    return json.loads(json.dumps({"name": name, **fixed}, default=str))


def options_from(kind: type[T], saved: Mapping[str, object], directory: Path) -> T:
    """The options that ``recipe_identity`` wrote; those that may change have their defaults.

    Raises:
        UserError: they are not of this version's recipe, or name code.
    """
    values = {}
    for name, hint in _hints(kind).items():
        if name not in saved:
            continue
        value = saved[name]
        if NAMES_CODE in _annotations(hint) and ":" in str(value):
            raise UserError(
                f"the run in {directory} names code, {name} = {value}, which is not run unasked: "
                "give model and guide, Run.load(directory, model, guide)"
            )
        value = tuple(value) if isinstance(value, list) else value
        values[name] = Path(value) if Path in _types(hint) and isinstance(value, str) else value
    try:
        options = kind(**values)
        refuse_impossible(options)
    except TypeError as error:
        raise UserError(f"the options of the run in {directory} are of another version") from error
    return options


def _types(hint: object) -> Iterator[object]:
    yield hint
    for part in get_args(hint):
        yield from _types(part)


def _hints(kind: type) -> Mapping[str, object]:
    """Field → type, with its annotations."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _annotations(hint: object) -> Iterator[object]:
    """All annotations within a type: tuple[Annotated[int, rule], ...] → …, rule, …"""
    for part in get_args(hint):
        yield part
        yield from _annotations(part)
