"""Letters with their marks, in any script, for patterns of words."""

from __future__ import annotations

import itertools
import unicodedata

INVISIBLE = str.maketrans("", "", "\u00ad\u2060\ufeff")  # soft hyphen, joiner, byte order mark
ASTRAL_MARKS = 0x1E950  # beyond the last combining mark but variation selectors


def _marks() -> str:
    """Unicode's combining marks (M*) and the joiners within words, as ranges of a pattern."""
    codes = [c for c in range(0x300, ASTRAL_MARKS) if unicodedata.category(chr(c))[0] == "M"]
    codes += [0x200C, 0x200D, *range(0xE0100, 0xE01F0)]
    runs = itertools.groupby(enumerate(sorted(codes)), lambda pair: pair[1] - pair[0])
    ends = ([code for _, code in run] for _, run in runs)
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in ends)


MARKS = _marks()
SIGN = rf"(?:[^\W_][{MARKS}]*)"  # a letter or digit
LETTER = rf"(?:(?!\d)\w[{MARKS}]*)"  # or an underscore, as gensim has it


def composed(text: str) -> str:
    """The text in Unicode's form NFC, without what is not seen."""
    return unicodedata.normalize("NFC", text.translate(INVISIBLE))
