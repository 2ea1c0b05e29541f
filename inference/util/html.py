"""Pages of html that stand alone: no script, no requests."""

from __future__ import annotations

from html import escape
from pathlib import Path

from inference.util.files import replacing

SAFE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark }
h1 { font-size: 1.6rem; margin: .5rem 0 }
h2 { margin: 2.5rem 0 .5rem }
"""


def write_page(path: Path, title: str, style: str, head: str, body: str) -> None:
    """Write a page, atomically.

    Args:
        path: ends on ``.html``.
        title: of the page, as text.
        style: further rules.
        head, body: html, below the title and after it.
    """
    text = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{SAFE}">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style>\n"
        f"<header><h1>{escape(title)}</h1>{head}</header>\n{body}</html>\n"
    )
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
