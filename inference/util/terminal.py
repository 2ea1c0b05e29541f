"""What reaches the terminal: foreign text without control characters, and notes."""

from __future__ import annotations

import re
import sys

# C0 and C1 (escape codes begin with them), overrides of direction, halves of surrogate pairs
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


LONG = re.compile(r"(\S{150})\S{150,}")  # no word of a sentence


def printable(text: object) -> str:
    """The text, its control characters written out (``\\x1b[31m`` instead of red), no word long."""
    short = LONG.sub(r"\1…", str(text))
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), short)


def note(sentence: str) -> None:
    """Say on stderr what was decided for the user, such as the scale of their numbers."""
    print(f"note: {printable(sentence)}", file=sys.stderr)
