"""Checks of ``fit``'s arguments; each error says what to give instead."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from pyro.infer import ELBO, ReweightedWakeSleep, TraceTailAdaptive_ELBO

import inference.estimators as estimators
from inference.util.errors import UserError

SEEDS = 2**32  # NumPy's largest seed
NO_BOUND = (ReweightedWakeSleep, TraceTailAdaptive_ELBO)  # their losses are no bounds


def refuse_options(
    *,
    counts: dict[str, Any],
    positive: dict[str, Any],
    durations: dict[str, Any],
    functions: dict[str, Any],
    device: str,
) -> None:
    """Check options given by name; None always means "not given".

    Args:
        counts: integers from 1.
        positive: numbers above 0.
        durations: numbers from 0.
        functions: of the progress.
        device: a name that torch knows.

    Raises:
        UserError: names the option.
    """
    refuse_counts(counts)
    for name, value in positive.items():
        if value is not None and not (is_number(value) and value > 0):
            raise UserError(f"{name} is {value!r}: give a number above 0")
    for name, value in durations.items():
        if not (is_number(value) and value >= 0):
            raise UserError(f"{name} is {value!r}: give a number of seconds, at least 0")
    for name, value in functions.items():
        _refuse_function(name, value)
    device_of(device)


def device_of(name: str) -> torch.device:
    """The device of this name.

    Raises:
        UserError: torch has no such device, or this machine has none.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps", "xpu"):
        raise UserError(f"device {name!r} is not a device of torch: give 'cpu' or 'cuda'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r} was asked for, but torch finds no GPU; use 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise UserError(f"device {name!r} was asked for, but torch finds {count} GPUs, from 0 on")
    return device


def refuse_counts(counts: dict[str, Any]) -> None:
    """Raise a ``UserError`` for a number that is neither None nor an integer from 1."""
    for name, value in counts.items():
        if value is not None and not is_count(value, 1):
            raise UserError(f"{name} is {value!r}: give a whole number, at least 1")


def is_count(value: Any, least: int) -> bool:
    """Whether it is an integer of at least that."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_number(value: Any) -> bool:
    """Whether it is a real number, not NaN."""
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)


def _refuse_function(name: str, value: Any) -> None:
    if not callable(value):
        raise UserError(
            f"{name} is {value!r}: give a function of the progress in [0, 1), such as "
            "inference.engine.training.schedules.cosine"
        )
    for progress in (0.0, 0.5):
        if not is_number(factor := value(progress)) or not 0 <= factor < math.inf:
            raise UserError(
                f"{name}({progress}) is {factor!r}: it must give a finite number, 0 or above"
            )


def seeds_of(seeds: int | Sequence[int]) -> list[int]:
    """0, 1, … for a count, else the given seeds.

    Raises:
        UserError: there is none, one is repeated, or one is out of range.
    """
    if is_count(seeds, 1) and isinstance(seeds, int | Integral):
        return list(range(int(seeds)))
    if isinstance(seeds, str) or not isinstance(seeds, Sequence | range) or not seeds:
        raise UserError(f"seeds is {seeds!r}: give how many, at least 1, or a list of them")
    for seed in seeds:
        if not is_count(seed, 0) or seed >= SEEDS:
            raise UserError(f"{seed!r} is not a seed: give integers from 0 to 2**32 − 1")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds is {list(seeds)!r}: give each seed once")
    return [int(seed) for seed in seeds]


def refuse_estimator(estimator: Any) -> None:
    """Raise a ``UserError`` for a name, a class, or an object that is not an estimator."""
    if isinstance(estimator, ELBO):
        if not (hasattr(estimator, "loss") or hasattr(estimator, "differentiable_loss")):
            raise UserError(f"{type(estimator).__name__} computes no loss: give a subclass of it")
        if isinstance(estimator, NO_BOUND):
            raise UserError(
                f"Pyro's {type(estimator).__name__} gives no bound: take ReweightedWakeSleep or "
                "VIMCO from inference.estimators"
            )
        return
    if isinstance(estimator, str):
        name = estimator.partition(":")[0]
        name = name if hasattr(estimators, name) else "LeaveOneOut"
        raise UserError(
            f"the estimator is the text {estimator!r}: give the object, {name}() from "
            "inference.estimators"
        )
    if inspect.isclass(estimator) and issubclass(estimator, ELBO):
        raise UserError(
            f"the estimator is the class {estimator.__name__}: give an instance of it, "
            f"{estimator.__name__}(...)"
        )
    raise UserError(
        f"the estimator is a {type(estimator).__name__}: give a pyro.infer.ELBO, such as "
        "LeaveOneOut(num_particles=8) from inference.estimators"
    )


def refuse_callables(model: Any, guide: Any) -> None:
    """Raise a ``UserError`` where model or guide is a class or cannot be called."""
    for role, callee in (("model", model), ("guide", guide)):
        if inspect.isclass(callee):
            raise UserError(
                f"the {role} is the class {callee.__name__}: give an instance of it, "
                f"{callee.__name__}(...)"
            )
        if not callable(callee):
            raise UserError(f"the {role} is {callee!r}: give a function or a module{_none(role)}")


def _none(role: str) -> str:
    return "; where nothing is latent, one that draws nothing" if role == "guide" else ""


def refuse_signature(guide: Callable, names: Sequence[str]) -> None:
    """Raise a ``UserError`` where the guide does not take the columns that the model takes."""
    try:
        signature = inspect.signature(guide)
    except (TypeError, ValueError):  # compiled code has no signature
        return
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        raise UserError(
            f"the guide's arguments are {signature} and the model's columns {list(names)}: the "
            f"guide is called with the same columns ({error})"
        ) from None
