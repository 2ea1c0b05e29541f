"""Tables for the terminal, in one style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from inference.util.terminal import printable


class PlainTable(Table):
    """A table whose cells are anybody's words: no markup, no escape codes."""

    def add_row(self, *cells: Any, **style: Any) -> None:
        """Add a row of texts."""
        super().add_row(*(plain(c) if isinstance(c, str) else c for c in cells), **style)


def new_table(title: str, headings: Sequence[str], caption: str | None = None) -> Table:
    """An empty table: a column of names, which may wrap, and columns of figures, which may not."""
    empty = PlainTable(
        title=plain(title),
        caption=plain(caption) if caption else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    names, *figures = map(plain, headings)
    empty.add_column(names, overflow="fold")
    for heading in figures:
        empty.add_column(heading, justify="right", no_wrap=True)
    return empty


def plain(text: str) -> Text:
    """Anybody's words as they are: no markup, no escape codes."""
    return Text(printable(text))
