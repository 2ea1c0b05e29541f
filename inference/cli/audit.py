"""``lowerbound audit``: gradient estimators on a recipe's program, from the shell."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import torch
from pyro.infer import ELBO
from rich.console import Console

from inference.cli.build import build_recipe
from inference.cli.options import AuditOptions
from inference.cli.registry import Source
from inference.estimators import ScoreFunction
from inference.recipes.named_estimators import named_estimator
from inference.results import traces
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
        dict(audited(source, options, spec, nesting) for spec in options.estimators),
        samples=options.samples,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        at=options.at,
        train_with=recipe.estimator or named_estimator(options.estimator, options.particles),
        optimizer=recipe.optimizer or functools.partial(torch.optim.Adam, lr=options.learning_rate),
        skip_refused=True,
    )
    for spec, why in found.refused.items():
        console.print(f"{spec}: left out. {why}", highlight=False)
    out = options.out or Path("runs") / f"{Path(source.name).stem}-audit"
    for step in sorted(set(options.at)):
        console.print(found.table(step))
    found.plot(out / "audit.png")
    traces.write_trace(found.tree, out / "audit.nc")
    console.print(f"picture and tree: {out}", highlight=False)


def audited(source: Source, options: AuditOptions, spec: str, nesting: float) -> tuple[str, ELBO]:
    """(label, estimator); ``ScoreFunction`` with the recipe's ``--baseline``, if it has one."""
    estimator, baseline = from_spec(spec, nesting), getattr(options, "baseline", "none")
    if baseline == "none" or type(estimator) is not ScoreFunction:
        return spec, estimator
    chosen = {"estimator": "ScoreFunction", "particles": estimator.num_particles}
    with_baseline = build_recipe(source, dataclasses.replace(options, **chosen)).estimator
    assert with_baseline is not None
    return f"{spec}, {baseline}", with_baseline


def from_spec(spec: str, nesting: float = 1) -> ELBO:
    """``LeaveOneOut:4`` → that estimator with 4 particles and this ``max_plate_nesting``."""
    name, _, particles = spec.partition(":")
    if particles and not particles.isdecimal():
        raise UserError(f"estimator {spec!r}: write a number of particles after the colon")
    return named_estimator(name, int(particles or 1), nesting)
