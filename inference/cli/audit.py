"""``lowerbound audit``: gradient estimators on a recipe's program, from the shell."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from pyro.infer import ELBO
from rich.console import Console

from inference.cli.build import build_recipe
from inference.cli.options import AuditOptions
from inference.cli.registry import Source
from inference.recipes.contract import Recipe
from inference.recipes.named_estimators import estimator_of
from inference.recipes.options import Training
from inference.results import traces
from inference.util import tables
from inference.util.errors import UserError
from inference.workflow.audit import audit


def run(source: Source, options: AuditOptions) -> None:
    """Audit, print the tables, keep picture and tree in the run's directory."""
    console = Console()
    recipe = build_recipe(source, options)
    nesting = recipe.estimator.max_plate_nesting if recipe.estimator else 1
    found = audit(
        recipe.model,
        recipe.guide,
        recipe.train,
        dict(audited(recipe, options, spec, nesting) for spec in options.estimators),
        samples=options.samples,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        at=options.at,
        train_with=recipe.estimator or estimator_of(recipe, options.estimator, options.particles),
        optimizer=recipe.optimizer or functools.partial(torch.optim.Adam, lr=options.learning_rate),
        skip_refused=True,
    )
    out = options.out or Path("runs") / f"{Path(source.name).stem}-audit"
    for table in found.tables():
        console.print(table)
    found.plot(out / "audit.png")
    traces.write_trace(found.tree, out / "audit.nc")
    console.print(tables.plain(f"picture and tree: {out}"))


def audited(recipe: Recipe, options: Training, spec: str, nesting: float) -> tuple[str, ELBO]:
    """(label, estimator): ``LeaveOneOut:4`` is that estimator with 4 particles.

    ``ScoreFunction`` has the recipe's baseline, and its label says so.
    """
    name, _, particles = spec.partition(":")
    if particles and not particles.isdecimal():
        raise UserError(f"estimator {spec!r}: write a number of particles after the colon")
    has_baseline = name == "ScoreFunction" and recipe.baseline is not None
    label = f"{spec}, {getattr(options, 'baseline', '')}" if has_baseline else spec
    return label, estimator_of(recipe, name, int(particles or 1), nesting)
