"""Recipes by name (ours) or by file (anybody's), and what the options of one build."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import inference.recipes
from inference.engine import launch
from inference.recipes.contract import Training
from inference.util.errors import UserError

if TYPE_CHECKING:
    from inference.results.run import Run

ELSEWHERE = ("out", "resume", "overwrite", "device", "features")  # where it is kept or runs
OF_THE_REPORT = ("test_samples", "beam", "length_penalty")


def homes() -> dict[str, str]:
    """Name → module of the recipes that come with lowerbound, as their rooms declare them."""
    found = {}
    for room in pkgutil.iter_modules(inference.recipes.__path__, "inference.recipes."):
        if room.ispkg:
            for name in importlib.import_module(room.name).RECIPES:
                found[name] = f"{room.name}.{name}"
    return dict(sorted(found.items()))


def canonical(name: str) -> str:
    """One of ours may be written with dashes: ``nce-lm`` is ``nce_lm``."""
    ours = name.replace("-", "_")
    return ours if ours in homes() else name


def load(name: str) -> ModuleType:
    """The recipe's module.

    Raises:
        UserError: no such recipe, a file that cannot be parsed or lacks ``Options`` or ``build``.
    """
    name = canonical(name)
    if name in homes():
        return importlib.import_module(homes()[name])
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        known = ", ".join(homes())
        raise UserError(f"no recipe {name!r}: give one of {known}, or a Python file of yours")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{error.filename}, line {error.lineno}: {error.msg}") from None
    for needed in ("Options", "build"):
        if not hasattr(module, needed):
            raise UserError(f"{path} defines no {needed!r}; copy inference/recipes/images/vae.py")
    return module


def described() -> Iterator[tuple[str, str]]:
    """(name, what it is in a line) of each recipe."""
    for name in homes():
        yield name, (load(name).Options.__doc__ or "").strip().splitlines()[0]


def fit_recipe(name: str, options: Training) -> tuple[Run, dict[str, Any]]:
    """Build and fit (or resume) a recipe; its run and reported figures."""
    import functools

    import pyro
    import torch

    from inference.engine.training.schedules import SCHEDULES, constant, warm_up
    from inference.recipes.named_estimators import named_estimator
    from inference.util import rng
    from inference.workflow.fit import fit

    name = canonical(name)
    with rng.forked():
        pyro.set_rng_seed(0)
        recipe = load(name).build(options)
    estimator = recipe.estimator or named_estimator(options.estimator, options.particles)
    run = fit(
        recipe.model,
        recipe.guide,
        recipe.train,
        estimator,
        recipe.optimizer
        or functools.partial(torch.optim.Adam, lr=options.learning_rate, fused=True),
        epochs=options.epochs,
        batch_size=options.batch_size,
        seeds=options.seeds,
        schedule=SCHEDULES[options.schedule],
        anneal=warm_up(options.anneal) if options.anneal else constant,
        clip_norm=options.clip_norm,
        valid=recipe.valid,
        patience=options.patience,
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        seeds_at_once=options.seeds_at_once,
        directory=options.out or Path("runs") / Path(name).stem,
        resume=options.resume,
        overwrite=options.overwrite,
        config=_config(name, options),
    )
    return run, recipe.report(run) if launch.rank() == 0 else {}


def _config(name: str, options: Training) -> dict[str, Any]:
    """The options that make the fit what it is."""
    fields = dataclasses.asdict(options)
    for other in (*ELSEWHERE, *OF_THE_REPORT):
        fields.pop(other, None)
    return json.loads(json.dumps({"name": name, **fields}, default=str))
