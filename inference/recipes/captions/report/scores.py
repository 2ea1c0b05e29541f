"""Scores of captions against references: BLEU, ROUGE-L and CIDEr, in percent, as published.

The counts are those of coco-caption (its Python 3 edition pycocoevalcap), without its tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import numpy as np

from inference.engine.training.validation import EVALUATION_SEED
from inference.results.report import Estimate
from inference.util.errors import UserError

ORDERS = 4
SCORE_NAMES = (*(f"BLEU-{n}" for n in range(1, ORDERS + 1)), "ROUGE-L", "CIDEr")
TINY, SMALL = 1e-15, 1e-9  # coco-caption's, against division by zero; 0 of 0 n-grams give 0

Words = Sequence[str]


@dataclass(frozen=True)
class Scores:
    """Scores in percent.

    Attributes:
        corpus: BLEU-1 to BLEU-4 (Papineni et al. 2002), ROUGE-L (Lin 2004), CIDEr (Vedantam et al.
            2015; the D variant, 1000 at most), each with its standard error over pictures.
        each: for ROUGE-L and CIDEr, (N,) of each picture; their mean is the corpus's.
    """

    corpus: dict[str, Estimate]
    each: dict[str, np.ndarray]


def caption_scores(
    said: Sequence[Words], references: Sequence[Sequence[Words]], draws: int = 1000
) -> Scores:
    """The scores of one caption a picture beside its references.

    CIDEr weighs n-grams by their rarity among these pictures' references: it needs many pictures.

    Args:
        said: N captions, each a list of words.
        references: for each of them, at least one caption, a list of words.
        draws: bootstrap samples of N pictures each, for the standard errors.

    Raises:
        UserError: no captions, not as many as lists of references, a picture without references,
            or pycocoevalcap is not installed.
    """
    _refuse(said, references)
    hypotheses = [" ".join(words) for words in said]
    truths = [[" ".join(words) for words in one] for one in references]
    each = _each(hypotheses, truths)
    shares = [values / len(said) for values in each.values()]
    counts = np.column_stack([_counts(hypotheses, truths), *shares])
    rng = np.random.default_rng(EVALUATION_SEED)
    times = rng.multinomial(len(said), np.full(len(said), 1 / len(said)), draws)
    values, errors = _scores(counts.sum(0)), _scores(times @ counts).std(0, ddof=1)
    figures = zip(SCORE_NAMES, values.tolist(), errors.tolist(), strict=True)
    return Scores({name: Estimate(value, error) for name, value, error in figures}, each)


def _refuse(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if not said:
        raise UserError("no captions to score: give at least one")
    if len(said) != len(references):
        raise UserError(
            f"{len(said)} captions cannot be scored against references of {len(references)} "
            "pictures: give one caption and one list of references for each picture"
        )
    if empty := [i for i, one in enumerate(references) if not one]:
        raise UserError(
            f"picture {empty[0]} has no reference caption ({len(empty)} of {len(references)} have "
            "none): give it one, or leave it out"
        )


def _library(module: str) -> ModuleType:
    try:
        return import_module(f"pycocoevalcap.{module}")
    except ImportError:
        raise UserError("scores need the extra: pip install 'lowerbound[captions]'") from None


def _each(hypotheses: list[str], references: list[list[str]]) -> dict[str, np.ndarray]:
    """ROUGE-L and CIDEr of each picture, (N,) percent."""
    scorers = {"ROUGE-L": _library("rouge.rouge").Rouge(), "CIDEr": _library("cider.cider").Cider()}
    truth, said = dict(enumerate(references)), {i: [h] for i, h in enumerate(hypotheses)}
    return {name: 100 * s.compute_score(truth, said)[1] for name, s in scorers.items()}


def _counts(hypotheses: list[str], references: list[list[str]]) -> np.ndarray:
    """(N, 2·ORDERS + 2): matching and all n-grams, n = 1, …; caption and reference lengths."""
    bleu = _library("bleu.bleu_scorer")
    rows = []
    for hypothesis, truth in zip(hypotheses, references, strict=True):
        found = bleu.cook_test(hypothesis, bleu.cook_refs(truth), eff="closest")
        rows.append([*found["correct"], *found["guess"], found["testlen"], found["reflen"]])
    return np.array(rows, dtype=float)


def _scores(sums: np.ndarray) -> np.ndarray:
    """(…, scores) percent, from sums over pictures of n-gram counts and of ROUGE-L and CIDEr."""
    matches, said = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
    words, due = sums[..., 2 * ORDERS, None], sums[..., 2 * ORDERS + 1, None]
    logs = np.log((matches + TINY) / (said + SMALL)).cumsum(-1) / np.arange(1, ORDERS + 1)
    brevity = np.minimum(0, 1 - (due + SMALL) / (words + TINY))
    return np.concatenate([100 * np.exp(logs + brevity), sums[..., -2:]], -1)
