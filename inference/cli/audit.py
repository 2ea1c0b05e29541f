"""``lowerbound audit``: gradient estimators on a recipe's program, from the shell."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from inference.cli import recipes as registry
from inference.recipes.contract import Training
from inference.util.errors import UserError

if TYPE_CHECKING:
    from pyro.infer import ELBO

DEFAULT = (
    *("Trace_ELBO", "DecayingAverage", "Pathwise", "ScoreFunction", "LeaveOneOut:4"),
    *("ARM", "DisARM", "REBAR", "GumbelSoftmax", "VIMCO:5"),
)


def options(kind: type[Training]) -> Any:
    """The recipe's options, and the audit's."""
    import tyro

    def flag(annotation: Any, text: str) -> Any:
        return Annotated[annotation, tyro.conf.arg(help=text)]

    return dataclasses.make_dataclass(
        "Options",
        [
            (
                "estimators",
                flag(
                    tuple[str, ...],
                    "names, with :K for K particles; those that refuse the program are left out",
                ),
                DEFAULT,
            ),
            ("samples", flag(int, "gradients of each"), 200),
            ("at", flag(tuple[int, ...], "after how many training steps to measure"), (0,)),
        ],
        bases=(kind,),
        frozen=True,
    )


def audit_recipe(name: str, chosen: Any) -> None:
    """Audit, print the tables, keep picture and tree in the run's directory."""
    import functools

    import pyro
    import torch
    from rich.console import Console

    from inference.recipes.named_estimators import named_estimator
    from inference.results import traces
    from inference.util import rng
    from inference.workflow.audit import audit

    console = Console()
    with rng.forked():
        pyro.set_rng_seed(0)
        recipe = registry.load(name).build(chosen)
    nesting = recipe.estimator.max_plate_nesting if recipe.estimator else 1
    found = audit(
        recipe.model,
        recipe.guide,
        recipe.train,
        {spec: from_spec(spec, nesting) for spec in chosen.estimators},
        samples=chosen.samples,
        device=chosen.device,
        precision=chosen.precision,
        batch_size=chosen.batch_size,
        at=chosen.at,
        train_with=recipe.estimator or named_estimator(chosen.estimator, chosen.particles),
        optimizer=recipe.optimizer or functools.partial(torch.optim.Adam, lr=chosen.learning_rate),
        skip_refused=True,
    )
    for spec, why in found.refused.items():
        console.print(f"{spec}: left out. {why}", highlight=False)
    out = chosen.out or Path("runs") / f"{Path(name).stem}-audit"
    for step in sorted(set(chosen.at)):
        console.print(found.table(step))
    found.plot(out / "audit.png")
    traces.write(found.tree, out / "audit.nc")
    console.print(f"picture and tree: {out}", highlight=False)


def from_spec(spec: str, nesting: float = 1) -> ELBO:
    """``LeaveOneOut:4`` → that estimator with four particles, for so many nested plates."""
    from inference.recipes.named_estimators import named_estimator

    name, _, particles = spec.partition(":")
    if particles and not particles.isdigit():
        raise UserError(f"estimator {spec!r}: write a number of particles after the colon")
    return named_estimator(name, int(particles or 1), nesting)
