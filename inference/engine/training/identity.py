"""What identifies a fit, as plain JSON types, kept in ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro.infer import ELBO
from torch import nn

from inference.engine.training.plan import Plan
from inference.util.errors import UserError
from inference.util.files import read_json


def fit_identity(
    plan: Plan,
    seeds: Sequence[int],
    optimizer: Any,
    estimator: ELBO,
    config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The options that must be equal for a directory to be resumed.

    Args:
        plan: of the training.
        seeds: the seeds.
        optimizer: as ``fit`` takes it.
        estimator: as ``fit`` takes it.
        config: further identification: a recipe's options.
    """
    constructor = getattr(optimizer, "func", getattr(optimizer, "pt_optim_constructor", optimizer))
    mixed = plan.precision.endswith("-mixed")
    return {
        "rows": plan.rows,
        "steps": plan.steps,
        "batch_size": plan.batch_size,
        "seeds": list(seeds),
        "estimator": describe_estimator(estimator),
        "optimizer": getattr(constructor, "__name__", str(type(constructor).__name__)),
        "optimizer_arguments": _options(optimizer),
        "schedule": plan.schedule.__qualname__,
        "anneal": plan.anneal.__qualname__,
        "clip_norm": plan.clip_norm,
        "patience": plan.patience,
        "compile": plan.compile,
        "precision": str(plan.dtype).removeprefix("torch.") + "-mixed" * mixed,
        "recipe": dict(config) if config else None,
        "seeds_at_once": plan.seeds_at_once,
    }


def _options(optimizer: Any) -> dict[str, str]:
    """An optimiser's options: a partial's keywords, or the arguments of a ``pyro.optim``."""
    found = dict(getattr(optimizer, "keywords", {}))
    for name in ("pt_optim_args", "pt_clip_args", "kwargs"):
        part = getattr(optimizer, name, None) or {}
        found |= {name: part.__qualname__} if callable(part) else part
    if scheduler := getattr(optimizer, "pt_scheduler_constructor", None):
        found["scheduler"] = scheduler.__name__
    return {k: repr(v) for k, v in found.items()}


def describe_estimator(estimator: Any) -> str:
    """An estimator's class, plain options and submodules: ``LeaveOneOut(num_particles=4)``."""
    kinds = (int, float, str)
    about = {k: v for k, v in vars(estimator).items() if k[0] != "_" and isinstance(v, kinds)}
    for passing in ("training", "max_plate_nesting", "vectorize_particles", "unbiased"):
        about.pop(passing, None)
    parts = estimator.named_children() if isinstance(estimator, nn.Module) else ()
    inner = {"elbo": estimator.elbo} if isinstance(getattr(estimator, "elbo", None), ELBO) else {}
    about |= {n: describe_estimator(part) for n, part in (*parts, *inner.items())}
    return f"{type(estimator).__name__}({', '.join(f'{k}={v}' for k, v in about.items())})"


def refuse_other(directory: Path, wanted: Mapping[str, Any]) -> None:
    """Raise a ``UserError`` if the directory holds another fit; it names the first difference."""
    before = read_json(directory / "config.json")
    pairs = [(k, before.get(k), v) for k, v in wanted.items() if k != "recipe"]
    old, new = before.get("recipe") or {}, wanted["recipe"] or {}
    pairs += [(k, old.get(k), new.get(k)) for k in {**old, **new}]
    for name, was, now in pairs:
        if was != now:
            raise UserError(
                f"{directory} holds a fit with {name} = {was}, not {now}: choose another "
                "directory, or --overwrite"
            )
