"""``lowerbound neighbours``: the words nearest to a word, or to a sum of words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from inference.recipes.words.options import NeighboursOptions
from inference.recipes.words.report.vectors import load_vectors
from inference.util import tables
from inference.util.errors import UserError

if TYPE_CHECKING:  # optional dependency
    from gensim.models import KeyedVectors


def run(options: NeighboursOptions) -> None:
    """Print a table of neighbours for each word, or for the sum."""
    asked = queries(options.words)
    vectors = load_vectors(options.vectors)
    Console().print(*[neighbour_table(vectors, query) for query in asked])


def neighbours(vectors: KeyedVectors, query: str, count: int = 10) -> list[tuple[str, float]]:
    """The words nearest to a word, or to a sum such as ``king - man + woman``, and their cosines.

    A sum is of unit vectors; its own words are not among the neighbours.

    Raises:
        UserError: a word is unknown; the message proposes words of similar spelling.
    """
    signed: dict[str, list[str]] = {"+": [], "-": []}
    sign = "+"
    for term in query.split():
        if term in signed:
            sign = term
        else:
            signed[sign].append(_known(vectors, term))
    if not any(signed.values()):
        raise UserError(f"{query!r} holds no word: give one, or a sum such as king - man + woman")
    return vectors.most_similar(positive=signed["+"], negative=signed["-"], topn=count)


def queries(words: Sequence[str]) -> list[str]:
    """The queries in these words: each word, or one sum if there is a + or -.

    Raises:
        UserError: there are none.
    """
    if not words:
        raise UserError("no words: give one or more, or a sum such as king - man + woman")
    return [" ".join(words)] if {"+", "-"} & set(words) else list(words)


def neighbour_table(vectors: KeyedVectors, query: str) -> Table:
    """A rich table of a query's neighbours and their cosines.

    Raises:
        UserError: as ``neighbours``.
    """
    shown = tables.new_table("", (query, "cosine"))
    for word, cosine in neighbours(vectors, query):
        shown.add_row(word, f"{cosine:.3f}")
    return shown


def _known(vectors: KeyedVectors, word: str) -> str:
    for form in (word, word.lower()):
        if form in vectors:
            return form
    close = difflib.get_close_matches(word.lower(), vectors.index_to_key, 3)
    remedy = f"did you mean {' or '.join(close)}?" if close else "give another word"
    raise UserError(f"no vector for {word!r} among {len(vectors)} words: {remedy}")
