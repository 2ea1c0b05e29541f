"""Tables in one style, and objects that show themselves as theirs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inference.util.terminal import printable

WIDEST = 400  # characters of a line of text: a table takes what it needs, wherever it is printed


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


class ShownAsTables(ABC):
    """An object that is its tables: printed as text, shown in a notebook as html."""

    @abstractmethod
    def tables(self) -> Sequence[Table]:
        """What to show, from top to bottom."""

    def __repr__(self) -> str:
        return "\n\n".join(map(as_text, self.tables()))

    def _repr_html_(self) -> str:
        return "\n".join(map(as_html, self.tables()))


def as_text(table: Table) -> str:
    """The table without colours, in as many columns as it needs."""
    file = StringIO()
    Console(file=file, width=WIDEST, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def as_html(table: Table) -> str:
    """The table as a ``<table>``: title, headings, cells, and the caption below."""
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    headings = _row("th", [str(column.header) for column in table.columns])
    body = "".join(_row("td", row) for row in zip(*cells, strict=True))
    below = escape(str(table.caption or "")).replace("\n", "<br>")
    return (
        f"<table><caption>{escape(str(table.title or ''))}</caption>"
        f"<thead>{headings}</thead><tbody>{body}</tbody></table><p><small>{below}</small></p>"
    )


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
