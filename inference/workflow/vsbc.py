"""``vsbc``: is what guides say, fitted to data from the model, true as often as they say?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pyro.infer import ELBO

from inference.data.columns import Columns, Data, as_columns
from inference.engine.optimizers import Optimizable
from inference.engine.program.checks.arguments import (
    is_count,
    refuse_callables,
    refuse_counts,
    refuse_signature,
)
from inference.engine.program.copies import Sent
from inference.engine.program.program import accepted_columns
from inference.util.errors import UserError
from inference.util.progress import Bar
from inference.workflow.calibrating.report import Calibration
from inference.workflow.calibrating.simulation import Simulation
from inference.workflow.fit import DEFAULT_OPTIMIZER
from inference.workflow.workers import side_by_side


def vsbc(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Data,
    estimator: ELBO | Mapping[str, ELBO] | str | None = None,
    optimizer: Optimizable = DEFAULT_OPTIMIZER,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    simulations: int = 100,
    draws: int = 99,
    level: float = 0.01,
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
) -> Calibration:
    """Simulation-based calibration of a program and its guide (Talts et al. 2018; Yao et al. 2018).

    Each simulation draws the latents from the prior and data from the model, in place of the
    observed columns; fits a copy of the guide; and ranks each true value among draws of the guide.
    If every guide is the posterior, the ranks are uniform.  Ties, of discrete latents, are broken
    at random, which keeps them uniform.  Looked at are up to eight elements of each latent, and
    log p(x | z), which sees dependences between latents, and a guide that ignores the data.

    A fit that is not at its end, a guide that cannot have the posterior's form, and a wrong
    program all show; a model that is wrong for the data themselves does not, as these are not used
    (their number of rows and further columns are).  A mean-field guide is too narrow wherever the
    posterior has dependences: that is a true finding.  Parameters of the model have their present
    values in the simulation, and are trained in the fit.

    Args:
        model, guide: the program; copies are trained.
        data: columns, of which those that are observed are replaced.
        estimator, optimizer, epochs, steps, batch_size: see ``fit``.
        simulations: S, data sets.
        draws: L, of each fitted guide.
        level: probability that a calibrated program shows a misfit in any quantity.
        seed: of all noise.
        jobs: simulations at a time, in processes of their own.
        progress: show a bar.

    Raises:
        UserError: observed data are no column as it stands, the guide does not draw a latent, or
            data are streamed.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from inference import vsbc
        >>> def model(x):
        ...     loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", 8, subsample=x):
        ...         pyro.sample("x", dist.Normal(loc, 1.0), obs=x)
        >>> def half_as_wide(x):
        ...     shift = pyro.param("shift", torch.tensor(0.0))
        ...     pyro.sample("loc", dist.Normal(x.sum() / 9 + 0 * shift, 0.5 / 9**0.5))
        >>> few = {"steps": 1, "simulations": 40, "draws": 49, "progress": False}
        >>> found = vsbc(model, half_as_wide, {"x": torch.zeros(8)}, **few)
        >>> found.calibrated, found.rows[0].name, found.rows[0].says
        (False, 'loc', 'too narrow')
    """
    refuse_callables(model, guide)
    refuse_counts({"simulations": simulations, "draws": draws, "jobs": jobs})
    if not (is_count(simulations, 10) and is_count(draws, 9)):
        raise UserError(
            f"simulations is {simulations} and draws {draws}: give at least 10 and 9, for ranks to "
            "say anything"
        )
    columns = as_columns(data)
    if not isinstance(columns, Columns):
        raise UserError("vsbc simulates columns that are in memory: give a dict of tensors")
    columns = columns.select(accepted_columns(model, columns.names))
    refuse_signature(guide, columns.names)
    options = {"estimator": estimator, "optimizer": optimizer, "epochs": epochs, "steps": steps}
    options["batch_size"] = batch_size
    simulation = Simulation(Sent(model, guide), columns, draws, seed, options)
    found = _all(simulation, simulations, jobs, progress)
    names = list(found[0])
    ranks = {name: np.array([one[name] for one in found]) for name in names}
    return Calibration(ranks, draws, level)


def _all(simulation: Simulation, count: int, jobs: int, shown: bool) -> list[dict[str, int]]:
    """The ranks of each simulation."""
    label = f"{count} simulations"
    if jobs > 1:
        return side_by_side(simulation.ranks, range(count), jobs, label, shown)
    found: list[dict[str, int]] = []
    with Bar(label, count, shown) as bar:
        for i in range(count):
            found.append(simulation.ranks(i))
            if bar.due:
                bar.update(i + 1)
    return found
