"""``lowerbound fit``: a recipe is built, fitted (or resumed), and reported."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
from pyro.infer import ELBO

from inference.cli.build import build_recipe
from inference.cli.registry import Source
from inference.engine import launch
from inference.engine.training.schedules import SCHEDULES, constant, warm_up
from inference.recipes.contract import Figures, Recipe
from inference.recipes.named_estimators import estimator_of
from inference.recipes.options import AUTO, Training, recipe_identity
from inference.results.run import Run
from inference.workflow.choosing.candidates import candidates
from inference.workflow.fit import fit


def run(source: Source, options: Training) -> None:
    """Train a recipe, print and keep its figures."""
    fitted, figures = fit_recipe(source, options)
    fitted.finish(figures)


def fit_recipe(source: Source, options: Training) -> tuple[Run, Figures]:
    """Build and fit (or resume) a recipe; its run and reported figures."""
    recipe = build_recipe(source, options)
    adam = functools.partial(torch.optim.Adam, lr=options.learning_rate, fused=True)
    fitted = fit(
        recipe.model,
        recipe.guide,
        recipe.train,
        recipe.estimator or chosen_estimator(recipe, options),
        recipe.optimizer or adam,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seeds=options.seeds,
        schedule=SCHEDULES[options.schedule],
        anneal=warm_up(options.anneal) if options.anneal else constant,
        clip_norm=options.clip_norm,
        valid=recipe.valid,
        patience=options.patience,
        until=options.until,
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        seeds_at_once=options.seeds_at_once,
        directory=options.out or Path("runs") / Path(source.name).stem,
        resume=options.resume,
        extend=options.extend,
        overwrite=options.overwrite,
        config=recipe_identity(source.name, options),
    )
    return fitted, recipe.report(fitted) if launch.rank() == 0 else {}


def chosen_estimator(recipe: Recipe, options: Training) -> ELBO | Mapping[str, ELBO]:
    """The one that is named; for ``auto``, those to choose among, particles in one run."""
    if options.estimator == AUTO:
        return candidates(vectorize_particles=True, max_plate_nesting=1)
    return estimator_of(recipe, options.estimator, options.particles)
