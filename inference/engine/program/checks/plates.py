"""Which plate of a model runs over the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine import Trace

from inference.data.columns import Batch, row_count
from inference.util.errors import UserError
from inference.util.sites import sample_sites

Frame = Any  # pyro.poutine.indep_messenger.CondIndepStackFrame


def frames_of(trace: Trace) -> dict[str, Frame]:
    """Name → frame of every plate that is a dimension of some site."""
    sites = sample_sites(trace).values()
    return {f.name: f for site in sites for f in site["cond_indep_stack"] if f.vectorized}


def other_rows(batch: Batch) -> Batch:
    """The batch with its last row repeated."""
    return {name: torch.cat([column, column[-1:]]) for name, column in batch.items()}


def data_plate(
    trace: Trace, batch: Batch, rows: int, elsewhere: Callable[[], Trace | None]
) -> Frame | None:
    """The frame of the plate over the data, which have ``rows`` rows; None if there is none.

    A plate that declares the batch's rows a subsample is that plate.  Else a plate may be as long
    as the batch by chance: it must change its length with the batch.

    Args:
        trace: of the model on ``batch``.
        elsewhere: the model's trace on ``other_rows(batch)``; None where it does not run on another
            number of rows (sizes are fixed in the code).
    """
    length, frames = row_count(batch), frames_of(trace)
    as_long = {name: f for name, f in frames.items() if f.size == length}
    parts = [f for f in as_long.values() if length < rows == full_size(f)]
    if parts or not as_long:
        return parts[0] if parts else None
    if (other := elsewhere()) is not None:
        there = frames_of(other)
        follow = [f for n, f in as_long.items() if n in there and there[n].size != f.size]
        return follow[0] if follow else None
    return _of_a_column(trace, batch, as_long) or next(iter(as_long.values()))


def full_size(frame: Frame) -> int:
    """The size of the set that a plate subsamples."""
    return frame.full_size or frame.size


def _of_a_column(trace: Trace, batch: Batch, as_long: dict[str, Frame]) -> Frame | None:
    """The plate over the rows of a column that a site observes."""
    columns = {column.data_ptr(): column for column in batch.values()}
    for site in sample_sites(trace).values():
        value = site["value"]
        column = columns.get(value.data_ptr()) if site["is_observed"] else None
        if column is not None and column.shape == value.shape:
            dim = site["fn"].event_dim - value.dim()
            for frame in site["cond_indep_stack"]:
                if frame.name in as_long and frame.dim == dim:
                    return frame
    return None


def check_size(frame: Frame | None, trace: Trace, length: int, rows: int) -> None:
    """Raise a ``UserError`` if the plate's size would not scale a batch to the whole data."""
    if frame is None:
        if length < rows:
            raise UserError(
                f"no plate runs over the batch's {length} rows: put the data's sites in "
                f'pyro.plate("data", {rows}, subsample=column), or fit the whole data at once '
                "(batch_size=None), in one process"
            )
    elif full_size(frame) not in (length, rows):
        raise UserError(
            f"plate {frame.name!r} has size {full_size(frame)}, but the data have {rows} rows: "
            f"give it size={rows}"
        )
    elif full_size(frame) == length < rows:
        _refuse_unscaled_globals(frame, trace, rows)


def _refuse_unscaled_globals(frame: Frame, trace: Trace, rows: int) -> None:
    for name, site in sample_sites(trace).items():
        inside = any(f.name == frame.name for f in site["cond_indep_stack"])
        if not site["is_observed"] and not inside:
            raise UserError(
                f"site {name!r} lies outside plate {frame.name!r}, which is only as long as "
                f"the batch: give the plate size={rows}, or the batch's terms are not scaled "
                "to the whole data"
            )


def refuse_uncovered(trace: Trace, batch: Batch, look: Callable[[Batch], Trace | None]) -> None:
    """Raise a ``UserError`` if a plate that subsamples by itself leaves out rows of the data.

    Args:
        trace: of the model on ``batch``, all of the data.
        batch: likewise.
        look: a trace of the model on other columns, with the same noise.
    """
    rows = row_count(batch)
    for name, node in trace.nodes.items():
        fn: Any = node.get("fn")
        if type(fn).__name__ != "_Subsample" or not fn.subsample_size or fn.size >= rows:
            continue
        others = {n: torch.cat([c[: fn.size], c.flip(0)[fn.size :]]) for n, c in batch.items()}
        traces = [look(columns) for columns in (batch, others)]
        found = [trace.log_prob_sum() for trace in traces if trace is not None]
        if fn.subsample_size < fn.size and len(found) == 2 and found[0] == found[1]:
            raise UserError(
                f"plate {name!r} has size {fn.size}, but the data have {rows} rows, of which the "
                f"last have no influence: give it size={rows}"
            )
