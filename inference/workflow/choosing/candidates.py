"""The estimators that ``estimator="auto"`` chooses among, and those of them a program takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
from pyro.infer import ELBO

from inference.data.columns import Batch
from inference.engine.program.checks.arguments import refuse_estimator
from inference.engine.program.program import Program
from inference.estimators import (
    ARMS,
    CARMS,
    REBAR,
    CoupledDifference,
    DisARM,
    LeaveOneOut,
    Marginal,
    MovingAverage,
    Pathwise,
    PerSite,
    ScoreFunction,
)
from inference.util.errors import UserError
from inference.workflow.auditing.moments import count_evaluations, placed
from inference.workflow.auditing.verdicts import bound_of, is_unbiased

MOST = 16  # evaluations of one gradient; a dearer estimator would have to be as much less noisy
AUTO = "auto"


def candidates(
    vectorize_particles: bool = False, max_plate_nesting: float = math.inf
) -> dict[str, ELBO]:
    """Name → estimator, unbiased for the ELBO; the first that takes a program is the incumbent.

    Not among them: ``Exact``, whose cost is a table and no number of evaluations; ``ARM``, which
    ``DisARM`` improves on at the same cost; ``RELAX``, which needs a network of the user's.

    Args:
        vectorize_particles, max_plate_nesting: Pyro's, of those with several particles.
    """
    many: dict[str, Any] = {
        "vectorize_particles": vectorize_particles,
        "max_plate_nesting": max_plate_nesting,
    }
    return {
        "Pathwise": Pathwise(),
        "LeaveOneOut(2)": LeaveOneOut(2, **many),
        "Pathwise(sticking_the_landing)": Pathwise(sticking_the_landing=True),
        "Pathwise(analytic KL)": Pathwise(kl="analytic"),
        "ScoreFunction": ScoreFunction(),
        "ScoreFunction(MovingAverage)": ScoreFunction(baseline=MovingAverage()),
        "LeaveOneOut(4)": LeaveOneOut(4, **many),
        "DisARM": DisARM(),
        "ARMS(4)": ARMS(4),
        "CARMS(4)": CARMS(4),
        "Marginal": Marginal(),
        "CoupledDifference": CoupledDifference(),
        "REBAR": REBAR(),
        "PerSite": of_each_kind(),
    }


def of_each_kind() -> PerSite:
    """Bits by antithetic pairs, categories by their sum, counts by coupled differences."""
    categorical, counts = Marginal(), CoupledDifference()
    rules = {
        dist.Bernoulli: DisARM(),
        dist.Categorical: categorical,
        dist.OneHotCategorical: categorical,
        dist.Poisson: counts,
        dist.Geometric: counts,
        dist.Binomial: counts,
    }
    return PerSite(rules)


def named_choices(estimator: Any) -> Any:
    """An estimator as it is; for ``"auto"`` the candidates; a dict of estimators, checked.

    Raises:
        UserError: it is none of these, or one of the dict is biased or of another bound.
    """
    if isinstance(estimator, str) and estimator == AUTO:
        return candidates()
    if not isinstance(estimator, Mapping):
        refuse_estimator(estimator)
        return estimator
    if not estimator:
        raise UserError('the dict of estimators is empty: give some, or estimator="auto"')
    for name, each in estimator.items():
        refuse_estimator(each)
        if not is_unbiased(each) or bound_of(each) != "ELBO":
            raise UserError(
                f"estimator {name!r} is biased or of a bound that is not the ELBO, so that its "
                "gradients say nothing beside the others': leave it out of the dict, or give it "
                "alone"
            )
    return dict(estimator)


def accepted(
    estimators: Mapping[str, ELBO], program: Program, batch: Batch
) -> tuple[dict[str, int], dict[str, str]]:
    """(name → evaluations for one gradient of the program, name → why not of the others).

    Args:
        estimators: by name.
        program: initialised, within its scope.
        batch: to be tried on.

    Raises:
        UserError: none does, or latents are to be summed out.
    """
    if program.undrawn:
        raise UserError(
            f"auto chooses among estimators that draw every latent, but site {program.undrawn[0]!r}"
            f" is to be summed out: give estimator=TraceEnum_ELBO(max_plate_nesting="
            f"{program.nesting}), or draw it in the guide"
        )
    taken, refused = dict[str, int](), dict[str, str]()
    for name, estimator in estimators.items():
        own = placed(estimator, program)
        try:
            taken[name] = count_evaluations(own, program, batch, most=MOST)
        except UserError as refusal:
            refused[name] = str(refusal).partition("\n")[0]  # Pyro adds shapes
    if not taken:
        name, reason = next(iter(refused.items()))
        raise UserError(f"no estimator takes the program; {name} says: {reason}")
    return taken, refused
