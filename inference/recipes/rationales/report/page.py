"""An html page of texts with the units that we keep and the spans that people marked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.contract import Figures
from inference.recipes.rationales.data.documents import Document, units
from inference.recipes.rationales.report import scores
from inference.recipes.rationales.report.judged import Judged
from inference.results.report import plain
from inference.util.html import write_page

SHOWN = 3  # texts under each heading
RATE = 0.3  # of words that are marked
STYLE = """
body { font: 16px/1.6 system-ui, sans-serif; max-width: 52rem; margin: auto; padding: 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td { padding: .1rem 1rem .1rem 0 }
td + td { text-align: right }
article { border-top: 1px solid #8886; padding: 1rem 0 }
h3 { font-size: 1rem; margin: 0 0 .5rem }
mark { background: #f6c34488; color: inherit; border-radius: 2px }
u { text-decoration: underline 2px #2a7fff; text-underline-offset: 3px }
small { opacity: .7 }
"""
LEGEND = (
    f"<mark>Marked</mark>: the {RATE:.0%} of the words that the model is surest to keep. "
    "<u>Underlined</u>: what people marked."
)


def page(path: Path, judged: Judged, labels: Sequence[str], figures: Figures) -> None:
    """Write the page: the figures, then some texts at random, the best and the worst.

    Args:
        path: ends on ``.html``.
        judged: the texts and what the model keeps and says of them.
        labels: in the order of their numbers.
        figures: of all texts.
    """
    kept = judged.over_words(judged.kept(RATE))
    sections = "".join(
        f"<section><h2>{heading}</h2>"
        + "".join(article(judged, i, kept[i], labels) for i in rows)
        + "</section>\n"
        for heading, rows in choose(judged).items()
    )
    head = f"<p><small>{LEGEND}</small></p>{table(figures)}"
    write_page(path, "Rationales", STYLE, head, sections)


def choose(judged: Judged) -> dict[str, list[int]]:
    """Heading → numbers of texts; best and worst by average precision, if people marked any."""
    drawn = np.random.default_rng(EVALUATION_SEED).permutation(len(judged.documents))
    found = {"At random": drawn[:SHOWN].tolist()}
    precision = scores.average_precision(judged.scores(), judged.truth())
    marked = np.flatnonzero(~np.isnan(precision))
    if len(marked):
        order = marked[np.argsort(-precision[marked], kind="stable")]
        found |= {"Best": order[:SHOWN].tolist(), "Worst": order[::-1][:SHOWN].tolist()}
    return found


def table(figures: Figures) -> str:
    """The figures, a row each."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(number(value))}</td></tr>"
        for name, value in plain(figures).items()
    )
    return f"<table>{rows}</table>"


def number(value: object) -> str:
    """A figure, with its error if it has one."""
    if not isinstance(value, dict):
        return f"{value:.3f}" if isinstance(value, float) else str(value)
    error = value["standard_error"]
    return f"{value['mean']:.3f}" + ("" if error is None else f" ± {error:.3f}")


def article(judged: Judged, i: int, kept: np.ndarray, labels: Sequence[str]) -> str:
    """One text."""
    document, p = judged.documents[i], judged.answer.averaged[i]
    chosen = int(p.argmax())
    head = f"{document.name}: {document.label}; said: {labels[chosen]} ({float(p[chosen]):.0%})"
    return f"<article><h3>{escape(head)}</h3>{text_of(document, kept, document.marks())}</article>"


def text_of(document: Document, kept: np.ndarray, marks: np.ndarray) -> str:
    """The words, a paragraph for all, with ours in <mark> and people's in <u>."""
    words = [word for part in units(document, 10**9) for word in part.words]
    pieces, start = [], 0
    changes = np.flatnonzero((np.diff(kept.astype(int)) != 0) | (np.diff(marks.astype(int)) != 0))
    for end in [*(changes + 1).tolist(), len(words)]:
        piece = escape(" ".join(words[start:end]))
        piece = f"<u>{piece}</u>" if marks[start] else piece
        pieces.append(f"<mark>{piece}</mark>" if kept[start] else piece)
        start = end
    return f"<p>{' '.join(pieces)}</p>"
