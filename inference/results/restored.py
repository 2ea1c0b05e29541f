"""A finished fit, read back from its directory: programs with their trained parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference.data.columns import Batch, Columns, Streamed, as_columns
from inference.engine.program.checks.arguments import device_of, refuse_callables
from inference.engine.program.copies import copies, refuse_shared
from inference.engine.program.program import Program, accepted_columns
from inference.engine.training.identity import fingerprint, read_config, refuse_other
from inference.engine.training.plan import DTYPES
from inference.results.traces import read_trace
from inference.util import rng
from inference.util.errors import UserError
from inference.util.files import load_checkpoint

Data = Columns | Streamed


def parts_of(
    directory: Path,
    program: tuple[Callable[..., Any], Callable[..., Any]] | None,
    data: Any,
    valid: Any,
    recipe: str | None,
    device: str,
) -> dict[str, Any]:
    """What a ``Run`` is made of, by attribute; see ``Run.load``."""
    config = read_config(directory)
    states = seed_states(directory, config)
    if program is None:
        made = rebuild()(directory, config, recipe)
        program, data, valid = (made.model, made.guide), made.train, made.valid
    refuse_callables(*program)
    place = device_of(device), dtype_of(config)
    example = Columns(states[0]["example"]).to(*place)
    first = example.rows(None)
    if data is not None:
        data = chosen(directory, config, program[0], data).to(*place)
        order = data.order(config["batch_size"], config["seeds"][0], 0)[:1]
        first = next(iter(data.batches(order)))
    return {
        "trace": read_trace(directory),
        "programs": programs_of(directory, program, config, states, first, place[0]),
        "data": data,
        "directory": directory,
        "dtype": place[1],
        "device": place[0],
        "valid": valid and as_columns(valid).select(list(first)).to(*place),
        "config": config,
        "example": example,
    }


def rebuild() -> Callable[..., Any]:
    """What makes a recipe's program of a run's config: recipes are found above this module.

    Raises:
        UserError: the package is not installed, so that its entry points are unknown.
    """
    for found in entry_points(group="lowerbound", name="rebuild"):
        chosen: Callable[..., Any] = found.load()
        return chosen
    raise UserError("recipes are found where lowerbound is installed: pip install -e .")


def seed_states(directory: Path, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The state of each seed's finished training.

    Raises:
        UserError: there is no checkpoint, it cannot be read, or the training has not ended.
    """
    file = directory / "checkpoint.pt"
    saved = load_checkpoint(file) if file.exists() else {}
    states = [its for state in saved.values() for its in state.get("seeds", [state])]
    if len(states) < len(config["seeds"]) or not all(state["finished"] for state in states):
        raise UserError(
            f"the fit in {directory} has not ended: the same call with resume=True (--resume) goes "
            "on with it"
        )
    return states


def part_of(
    directory: Path, recipe: str, prefix: str, *others: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(options, weights) of a module of a recipe's finished run, the first seed's.

    Args:
        directory: of the run.
        recipe: whose run it is.
        prefix: of the names of the module's parameters and buffers.
        others: further files that the recipe keeps there.

    Raises:
        UserError: the directory holds no finished run of the recipe.
    """
    files = [directory / name for name in ("config.json", "checkpoint.pt", *others)]
    for file in files:
        if not file.exists():
            raise UserError(
                f"{directory} holds no finished {recipe} ({file.name} is missing): give the "
                f"directory of a lowerbound fit {recipe} that ran to its end"
            )
    config = read_config(directory)
    options = config["recipe"] or {}
    if (name := options.get("name")) != recipe:
        kind = f"a fit of {name}" if name else "a program of your own"
        raise UserError(f"{directory} holds {kind}: give a fit of the recipe {recipe}")
    program = seed_states(directory, config)[0]["program"]
    kept = program["parameters"] | program["buffers"]
    return options, {n.removeprefix(prefix): t for n, t in kept.items() if n.startswith(prefix)}


def dtype_of(config: Mapping[str, Any]) -> torch.dtype:
    """The floating type of a run's parameters."""
    return DTYPES[str(config["precision"]).removesuffix("-mixed")]


def chosen(directory: Path, config: Mapping[str, Any], model: Any, data: Any) -> Data:
    """The columns that the model takes of the data that the run was trained on.

    Raises:
        UserError: these are other data.
    """
    columns = as_columns(data)
    columns = columns.select(accepted_columns(model, columns.names))
    if fingerprint(columns) != config["data"]:
        raise UserError(
            f"these are not the data of the fit in {directory}: load it without, and give others "
            "to predict(columns) or posterior(data=columns)"
        )
    return columns


def programs_of(
    directory: Path,
    program: tuple[Callable[..., Any], Callable[..., Any]],
    config: Mapping[str, Any],
    states: Sequence[Mapping[str, Any]],
    first: Batch,
    device: torch.device,
) -> list[Program]:
    """Each seed's program with its trained parameters; the first is (model, guide) itself.

    Args:
        directory: of the run.
        program: (model, guide), as they were fitted.
        config: the run's.
        states: of its seeds.
        first: rows on which the program is run once, to find its parameters.
        device: of the programs.

    Raises:
        UserError: the program is another, or does not run on these rows.
    """
    found = copies(*program, len(states))
    for i, (each, state) in enumerate(zip(found, states, strict=True)):
        each.to(device, dtype_of(config))
        with rng.forked(), each.scope():
            _initialise(each, first, config["rows"])
            refuse_other(directory, config, {"sites": each.sites})
            each.load_state_dict(state["program"])
        refuse_shared(each, found[:i])
    return found


def _initialise(program: Program, batch: Batch, rows: int) -> None:
    try:
        program.initialise(batch, rows)
    except (RuntimeError, ValueError, IndexError) as error:
        count = len(next(iter(batch.values())))
        if count == rows:
            raise
        raise UserError(
            f"the program does not run on {count} rows of its {rows} "
            f"({str(error).splitlines()[0]}): give the training data, too, load(..., data=...)"
        ) from error
