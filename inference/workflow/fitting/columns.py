"""The columns that a program is trained on, and those held out."""

from __future__ import annotations

from collections.abc import Callable

from inference.data.columns import Columns, Data, Streamed, as_columns
from inference.engine.program.checks.arguments import refuse_signature
from inference.engine.program.program import accepted_columns
from inference.engine.training.validation import refuse_other_columns
from inference.util.errors import UserError


def chosen(
    model: Callable, guide: Callable, data: Data, valid: Data | None
) -> tuple[Columns | Streamed, Columns | Streamed | None]:
    """Of the data and of the held-out data, the columns that the model takes, all finite.

    Raises:
        UserError: a column is missing, not finite, or of another kind when held out; the guide
            does not take what the model takes.
    """
    columns = as_columns(data)
    names = accepted_columns(model, columns.names)
    refuse_signature(guide, names)
    train = _finite(columns.select(names))
    if valid is None:
        return train, None
    others = as_columns(valid)
    if missing := [n for n in names if n not in others.names]:
        raise UserError(f"the held-out data lack column {missing[0]!r}")
    held_out = _finite(others.select(names))
    refuse_other_columns("the held-out data", held_out, train)
    return train, held_out


def _finite(columns: Columns | Streamed) -> Columns | Streamed:
    if isinstance(columns, Columns):
        columns.refuse_nonfinite()
    return columns
