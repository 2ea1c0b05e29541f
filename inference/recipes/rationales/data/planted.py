"""Made-up texts, each of plain sentences and two that decide the label: the truth is known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

SIZES = (400, 100, 200)  # train, validation, test
SEED = 0
PEOPLE = ("a sailor", "the teacher", "her brother", "the old clerk", "a stranger", "the cook")
DOES = ("walks to", "waits near", "talks about", "looks at", "drives past", "returns to")
THINGS = ("the harbour", "a green door", "the last train", "their garden", "the station", "a lamp")
WHEN = ("in the morning", "after the war", "at noon", "before winter", "on a sunday", "again")
WHAT = ("the story", "the acting", "the music", "the ending", "the camera", "the script")
VERDICTS = {
    "POS": ("is superb", "moved me", "is a delight", "shines", "is brilliant", "never fails"),
    "NEG": ("is dreadful", "bored me", "is a mess", "drags", "is hollow", "never works"),
}


def planted() -> list[list[dict[str, Any]]]:
    """Train, validation and test texts as the lines of a jsonl file."""
    generator = random.Random(SEED)
    return [[text(generator, f"planted {i}") for i in range(size)] for size in SIZES]


def text(generator: random.Random, name: str) -> dict[str, Any]:
    """6 to 12 sentences, of which two are a verdict."""
    label = generator.choice(list(VERDICTS))
    sentences = [
        joined(generator, PEOPLE, DOES, THINGS, WHEN) for _ in range(generator.randint(4, 10))
    ]
    for _ in range(2):
        place = generator.randint(0, len(sentences))
        sentences.insert(place, joined(generator, WHAT, VERDICTS[label]))
    spans, start = [], 0
    for sentence in sentences:
        end = start + len(sentence.split())
        if any(sentence.startswith(what) for what in WHAT):
            spans.append((start, end))
        start = end
    return {"id": name, "sentences": sentences, "label": label, "rationale_token_spans": spans}


def joined(generator: random.Random, *choices: Sequence[str]) -> str:
    """One of each, and a full stop."""
    return " ".join([*(generator.choice(some) for some in choices), "."])
