"""What users give, refused by a sentence where it cannot mean anything."""

from __future__ import annotations

from typing import Any

from pyro.infer import ELBO

from inference.util.errors import UserError


def require_elbo(estimator: Any) -> None:
    """Raise a ``UserError`` if this is no estimator: a name, a class, anything else."""
    if isinstance(estimator, ELBO):
        return
    if isinstance(estimator, str):
        raise UserError(
            f"estimator {estimator!r} is a name: give the object, as in "
            f"inference.estimators.{estimator.partition(':')[0]}()"
        )
    if isinstance(estimator, type):
        raise UserError(
            f"estimator {estimator.__name__} is a class: give an object, {estimator.__name__}()"
        )
    raise UserError(
        f"estimator {estimator!r} is a {type(estimator).__name__}, and no pyro.infer.ELBO: give "
        "one of inference.estimators, or of Pyro's ELBOs"
    )


def require_batch_size(rows: int | None) -> None:
    """Raise a ``UserError`` if a batch would have no rows."""
    if rows is not None and (not isinstance(rows, int) or rows < 1):
        raise UserError(f"batch_size is {rows!r}: give 1 or more rows, or None for all of them")
