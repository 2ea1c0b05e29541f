"""The vocabulary of captions: words and their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inference.data.letters import SIGN, composed
from inference.util.errors import UserError
from inference.util.files import read_json, write_json

END, UNKNOWN = 0, 1
MARKS = ("<end>", "<unknown>")  # tokens of captions have no brackets
# As the Penn Treebank: don't → do n't, dog's → dog 's, t-shirt stays whole.
WORD = re.compile(rf"n't\b|'(?:s|re|ve|ll|d|m)\b|{SIGN}+?(?=n't\b)|{SIGN}+(?:[-.,/]{SIGN}+)*")


def tokenize(caption: str) -> list[str]:
    """The lower-case words of a caption without punctuation, tokenised as coco-caption does.

    Combining marks (Indic vowels, Arabic points, accents of their own) belong to their letter.
    """
    return WORD.findall(composed(caption.lower()).replace("’", "'"))


def frequent(counts: Mapping[str, int], minimum: int) -> list[str]:
    """The words counted at least ``minimum`` times, the most frequent first, ties by alphabet."""
    return sorted((w for w, n in counts.items() if n >= minimum), key=lambda w: (-counts[w], w))


@dataclass(frozen=True)
class Vocabulary:
    """The words a captioner can say; a word's number is its place in ``words``.

    Args:
        words: begins with the marks of ``END`` (0, also the padding) and ``UNKNOWN`` (1).
    """

    words: tuple[str, ...]

    @staticmethod
    def from_texts(texts: Iterable[Sequence[str]], minimum: int = 5) -> Vocabulary:
        """The words that occur at least ``minimum`` times, the most frequent first.

        Raises:
            UserError: no word occurs that often.
        """
        counts = Counter(word for words in texts for word in words)
        kept = frequent(counts, minimum)
        if not kept:
            raise UserError(f"no word occurs {minimum} times in the captions: lower the minimum")
        return Vocabulary((*MARKS, *kept))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Sequence[str]) -> list[int]:
        """The numbers of these words, ``UNKNOWN`` for those it does not hold, then one ``END``."""
        return [*(self._numbers.get(word, UNKNOWN) for word in words), END]

    def decode(self, numbers: Iterable[int]) -> str:
        """The words of these numbers up to the first ``END``, with blanks between them."""
        words = []
        for number in map(int, numbers):
            if number == END:
                break
            words.append(self.words[number])
        return " ".join(words)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self.words)

    @staticmethod
    def load(path: Path) -> Vocabulary:
        """What ``save`` wrote.

        Raises:
            UserError: the file does not exist or holds no vocabulary.
        """
        if not path.is_file():
            raise UserError(f"no vocabulary {path}: give the file that a training wrote")
        words = read_json(path)
        are_words = isinstance(words, list) and all(isinstance(word, str) for word in words)
        if not are_words or tuple(words[:2]) != MARKS or len(set(words)) < len(words):
            raise UserError(f"{path} holds no vocabulary: give the file that a training wrote")
        return Vocabulary(tuple(words))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}
