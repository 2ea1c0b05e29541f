"""Recipes by name (ours) or by file (anybody's), and what the options of one build."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

from inference import launch
from inference.errors import UserError
from inference.recipes.contract import EstimatorName, Training

if TYPE_CHECKING:
    from pyro.infer import ELBO
    from torch import Tensor

    from inference.run import Run

ELSEWHERE = ("out", "resume", "overwrite", "device", "features")  # where it is kept or runs
OF_THE_REPORT = ("test_samples", "beam", "length_penalty")
NOT_RECIPES = {"__init__", "auditable", "captioning", "contract", "registry", "toys"}


def names() -> list[str]:
    """The recipes that come with lowerbound."""
    return sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in NOT_RECIPES
    )


def canonical(name: str) -> str:
    """One of ours may be written with dashes: ``nce-lm`` is ``nce_lm``."""
    ours = name.replace("-", "_")
    return ours if ours in names() else name


def load(name: str) -> ModuleType:
    """The recipe's module.

    Raises:
        UserError: no such recipe, a file that cannot be parsed or lacks ``Options`` or ``build``.
    """
    name = canonical(name)
    if name in names():
        return importlib.import_module(f"inference.recipes.{name}")
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        known = ", ".join(names())
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
            raise UserError(f"{path} defines no {needed!r}; copy inference/recipes/vae.py")
    return module


def described() -> Iterator[tuple[str, str]]:
    """(name, what it is in a line) of each recipe."""
    for name in names():
        yield name, (load(name).Options.__doc__ or "").strip().splitlines()[0]


def fit_recipe(name: str, options: Training) -> tuple[Run, dict[str, Any]]:
    """Build and fit (or resume) a recipe; its run and reported figures."""
    import functools

    import pyro
    import torch

    from inference import rng
    from inference.schedules import SCHEDULES, constant, warm_up
    from inference.svi import fit

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


def named_estimator(name: str, particles: int, nesting: float = 1) -> ELBO:
    """Pyro's or our estimator of this name, its particles vectorised, for so many nested plates."""
    from pyro import infer

    from inference import estimators

    if name not in (known := get_args(EstimatorName)):
        raise UserError(f"no estimator {name!r}: give one of {', '.join(known)}")
    home = estimators if hasattr(estimators, name) else infer
    vectorize = particles > 1
    return getattr(home, name)(
        num_particles=particles, vectorize_particles=vectorize, max_plate_nesting=nesting
    )


def baselined(options: Any, features: int, inputs: Callable[..., Tensor]) -> ELBO:
    """The named estimator; of ``ScoreFunction``, with what ``options.baseline`` says.

    Args:
        options: with ``estimator``, ``particles`` and ``baseline``: none, average, or neural (a
            network of 100 units, with NVIL's normalisation).
        features: length of what the network reads of a datum.
        inputs: picks that from the columns.
    """
    from torch import nn

    from inference.estimators import MovingAverage, NeuralBaseline, ScoreFunction
    from ppl_models.networks import mlp

    if options.estimator != "ScoreFunction" or options.baseline == "none":
        return named_estimator(options.estimator, options.particles)
    if options.baseline == "average":
        return ScoreFunction(options.particles, baseline=MovingAverage())
    guess = NeuralBaseline(mlp([features, 100, 1], nn.Tanh), inputs)
    return ScoreFunction(options.particles, baseline=guess, normalise=True)


def _config(name: str, options: Training) -> dict[str, Any]:
    """The options that make the fit what it is."""
    fields = dataclasses.asdict(options)
    for other in (*ELSEWHERE, *OF_THE_REPORT):
        fields.pop(other, None)
    return json.loads(json.dumps({"name": name, **fields}, default=str))
