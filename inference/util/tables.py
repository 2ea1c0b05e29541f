"""Tables for the terminal, in one style."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table


def new_table(title: str, headings: Sequence[str], caption: str | None = None) -> Table:
    """An empty table: a column of names, which may wrap, and columns of figures, which may not."""
    empty = Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    names, *figures = headings
    empty.add_column(names, overflow="fold")
    for heading in figures:
        empty.add_column(heading, justify="right", no_wrap=True)
    return empty
