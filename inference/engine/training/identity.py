"""What identifies a fit, as plain JSON types, kept in ``config.json``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO, EnergyDistance, RenyiELBO, Trace_MMD
from torch import Tensor, nn

from inference.data.columns import Columns, Streamed
from inference.engine.training.plan import Plan
from inference.engine.training.schedules import Schedule
from inference.estimators.multi_sample import MultiSample
from inference.estimators.relaxed import GumbelSoftmax
from inference.util.errors import UserError
from inference.util.files import read_json

FORMAT = 2  # of config.json and checkpoint.pt
CONSTANT = "constant"
POINTS = 16  # of a schedule, which describe it
ITEMS = 8  # of a streamed data set, which are hashed
MAY_GROW = ("epochs", "seeds")  # of a recipe's options: ``steps`` and ``seeds`` say it
HASHES = {"data": "data", "held_out_data": "held-out data"}
FOREIGN = (
    "is not of this version's fit: choose another directory, or --overwrite replaces what it holds"
)


def fit_identity(
    plan: Plan,
    seeds: Sequence[int],
    estimator: ELBO | Mapping[str, ELBO],
    config: Mapping[str, Any] | None,
    data: Columns | Streamed,
    valid: Columns | Streamed | None,
) -> dict[str, Any]:
    """The options and data that must be equal for a directory to be resumed.

    Args:
        plan: of the training.
        seeds: the seeds.
        estimator: as ``fit`` takes it.
        config: further identification: a recipe's options.
        data, valid: the columns that the program takes, as they were given.
    """
    mixed = plan.precision.endswith("-mixed")
    return {
        "format": FORMAT,
        "rows": plan.rows,
        "steps": plan.steps,
        "batch_size": plan.batch_size,
        "seeds": list(seeds),
        "estimator": describe_estimator(estimator),
        "schedule": describe_schedule(plan.schedule),
        "anneal": describe_schedule(plan.anneal),
        "clip_norm": plan.clip_norm,
        "patience": plan.patience,
        "until": plan.until,
        "compile": plan.compile,
        "precision": str(plan.dtype).removeprefix("torch.") + "-mixed" * mixed,
        "recipe": dict(config) if config else None,
        "seeds_at_once": plan.seeds_at_once,
        "data": fingerprint(data),
        "held_out_data": None if valid is None else fingerprint(valid),
    }


def fingerprint(data: Columns | Streamed) -> str:
    """A hash of names, types, shapes and values; of a streamed data set's length and some items."""
    digest = hashlib.sha256()
    for name, column in sorted(_hashed(data), key=lambda pair: pair[0]):
        digest.update(f"{name} {column.dtype} {tuple(column.shape)};".encode())
        plain = column.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(plain.numpy().data)
    return digest.hexdigest()[:32]


def _hashed(data: Columns | Streamed) -> Iterator[tuple[str, Tensor]]:
    if isinstance(data, Columns):
        yield from data.tensors.items()
        yield from ((f"table of {name}", table) for name, table in data.tables.items())
        return
    yield "length", torch.tensor([len(data)], device="cpu")
    chosen = torch.linspace(0, len(data) - 1, ITEMS, device="cpu").long().unique().tolist()
    for row in chosen:
        item: Mapping[str, Any] = data.dataset[row]
        for name in data.chosen or item:
            yield f"{name} of {row}", torch.as_tensor(item[name]).reshape(-1)


def describe_schedule(schedule: Schedule) -> str:
    """``constant``, or the name and some values: two functions of one name may differ."""
    values = [float(schedule(i / POINTS)) for i in range(POINTS)]
    if set(values) == {1.0}:
        return CONSTANT
    if len(set(values)) == 1:
        return f"{CONSTANT} {values[0]:g}"
    name = getattr(schedule, "__qualname__", type(schedule).__name__)
    return f"{name.partition('.')[0]} {' '.join(f'{v:.6g}' for v in values)}"


def describe_estimator(estimator: Any) -> str:
    """An estimator's class, plain options and submodules: ``LeaveOneOut(num_particles=4)``.

    Of a dict, among which one is chosen, the names.
    """
    if isinstance(estimator, Mapping):
        return f"one of {', '.join(estimator)}"
    kinds = (int, float, str)
    about = {k: v for k, v in vars(estimator).items() if k[0] != "_" and isinstance(v, kinds)}
    for passing in ("training", "max_plate_nesting", "vectorize_particles", "unbiased"):
        about.pop(passing, None)
    parts = estimator.named_children() if isinstance(estimator, nn.Module) else ()
    inner = {"elbo": estimator.elbo} if isinstance(getattr(estimator, "elbo", None), ELBO) else {}
    about |= {n: describe_estimator(part) for n, part in (*parts, *inner.items())}
    return f"{type(estimator).__name__}({', '.join(f'{k}={v}' for k, v in about.items())})"


def bound_of(estimator: Any) -> str:
    """Which bound an estimator's value is: ``ELBO``, ``L_5`` of five particles, or a name."""
    inner = getattr(estimator, "elbo", estimator)
    of_many = isinstance(inner, MultiSample) or getattr(inner, "alpha", None) == 0
    if of_many:
        return f"L_{inner.num_particles}" if inner.num_particles > 1 else "ELBO"
    if isinstance(inner, GumbelSoftmax) and not inner.hard:
        return "relaxed ELBO"
    if isinstance(inner, RenyiELBO):
        return f"RenyiELBO(alpha={inner.alpha}, num_particles={inner.num_particles})"
    if isinstance(inner, Trace_MMD | EnergyDistance):
        return type(inner).__name__
    return "ELBO"


def read_config(directory: Path) -> dict[str, Any]:
    """The ``config.json`` of a fit.

    Raises:
        UserError: there is none, it cannot be read, or is not of this version's ``fit``.
    """
    file = directory / "config.json"
    if not file.is_file():
        raise UserError(f"{directory} holds no fit: {file.name} is missing")
    config = read_json(file)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"{file} {FOREIGN}")
    return config


def refuse_other(
    directory: Path, before: Mapping[str, Any], wanted: Mapping[str, Any], extend: bool = False
) -> None:
    """Raise a ``UserError`` if the directory holds another fit; it names the first difference.

    More steps and further seeds are no difference, if nothing depends on the number of steps.

    Args:
        directory: of the run.
        before: its ``config.json``.
        wanted: the identity, or a part of it, of the fit that is to go on.
        extend: more steps are wanted even if a schedule depends on their number.
    """
    for name, was, now in _pairs(before, wanted):
        if was == now or (name == "seeds" and _is_prefix(was, now)):
            continue
        if name == "steps" and isinstance(was, int) and was < now:
            _refuse_dependent(directory, before, was, now, extend)
            continue
        if name in HASHES:
            raise UserError(
                f"{directory} holds a fit of other {HASHES[name]}, by their hash: give the same, "
                "or choose another directory, or --overwrite"
            )
        raise UserError(
            f"{directory} holds a fit with {name} = {_short(was)}, not {_short(now)}: choose "
            "another directory, or --overwrite"
        )


def _pairs(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, value before, value wanted), entry by entry where values are dicts."""
    for name, now in wanted.items():
        was = before.get(name)
        if not isinstance(now, Mapping) and not isinstance(was, Mapping):
            yield name, was, now
            continue
        old = was if isinstance(was, Mapping) else {}
        new = now or {}
        for key in {**new, **old}:
            may_grow = name == "recipe" and key in MAY_GROW
            newer = name == "optimizer" and not (key in old and key in new)  # of another torch
            if not (may_grow or newer):
                shown = key if name == "recipe" else f"{name}, {key}"
                yield shown, old.get(key), new.get(key)


def _is_prefix(was: Any, now: Sequence[int]) -> bool:
    return isinstance(was, list) and bool(was) and list(now[: len(was)]) == was


def _refuse_dependent(
    directory: Path, before: Mapping[str, Any], was: int, now: int, extend: bool
) -> None:
    for name in ("schedule", "anneal"):
        if not extend and not str(before.get(name)).startswith(CONSTANT):
            raise UserError(
                f"{directory} holds a fit of {was} steps whose {name} depends on their number: "
                f"going on to {now} is another course than {now} from the start. --extend (in "
                "Python extend=True) goes on all the same, or choose another directory"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
