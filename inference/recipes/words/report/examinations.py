"""Evaluation of word vectors on the test sets that come with gensim.

19,544 analogies a : b = c : ? (Mikolov et al. 2013), and people's judgements of 353 (WordSim,
Finkelstein et al. 2002) and 999 (SimLex, Hill et al. 2015) pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from inference.data.libraries import gensim_file
from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.contract import Figures
from inference.results.report import Estimate
from inference.util.errors import UserError

if TYPE_CHECKING:  # optional dependency
    from gensim.models import KeyedVectors

QUESTIONS = "questions-words.txt"
JUDGEMENTS = {"WordSim-353": "wordsim353.tsv", "SimLex-999": "simlex999.txt"}
MIN_PAIRS = 10  # fewest pairs for a correlation
BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class Answers:
    """Answers to the questions of one section.

    Args:
        asked: the number of questions.
        right: (n,) of 0 and 1, for the n questions whose four words all have vectors.
    """

    asked: int
    right: Tensor


def analogies(vectors: KeyedVectors) -> dict[str, Answers]:
    """Analogies a : b = c : ? by section, and ``all``.

    An answer is the word, other than these three, whose vector has the largest cosine with
    b − a + c (of unit vectors); case is ignored.

    Raises:
        UserError: gensim is not installed, or lacks the file of questions.
    """
    path = gensim_file(QUESTIONS)
    _, sections = vectors.evaluate_word_analogies(
        str(path), restrict_vocab=len(vectors), dummy4unknown=True
    )
    known = _caseless(vectors)
    answers = {}
    for section in sections:
        wrong = [q for q in section["incorrect"] if all(word in known for word in q)]
        right, asked = section["correct"], len(section["correct"]) + len(section["incorrect"])
        answers[section["section"]] = Answers(
            asked, torch.tensor([1.0] * len(right) + [0.0] * len(wrong))
        )
    answers["all"] = answers.pop("Total accuracy")
    return answers


def _caseless(vectors: KeyedVectors) -> dict[str, str]:
    """Upper-case form → word; the most frequent word of each form."""
    return {word.upper(): word for word in reversed(vectors.index_to_key)}


@dataclass(frozen=True)
class Judged:
    """Pairs of words judged by people.

    Args:
        asked: the number of questions.
        people: (n,) the mean judgement of those n pairs whose two words have vectors.
        cosines: (n,) of these pairs' vectors.
    """

    asked: int
    people: np.ndarray
    cosines: np.ndarray

    def correlation(self) -> tuple[Estimate, float, float]:
        """Spearman's ρ, its standard error, and its 95 % interval.

        Error and interval (bias-corrected and accelerated, Efron 1987) are from 1,000 bootstrap
        samples of the pairs, with a fixed seed.

        Raises:
            UserError: there are fewer than 10 pairs.
        """
        if len(self.people) < MIN_PAIRS:
            raise UserError(f"{len(self.people)} pairs have no correlation: {MIN_PAIRS} are needed")

        def spearman(people: np.ndarray, cosines: np.ndarray) -> float:
            return float(stats.spearmanr(people, cosines).statistic)

        drawn = stats.bootstrap(
            (self.people, self.cosines),
            spearman,
            n_resamples=BOOTSTRAP_SAMPLES,
            paired=True,
            vectorized=False,
            random_state=np.random.default_rng(EVALUATION_SEED),
        )
        rho = Estimate(spearman(self.people, self.cosines), float(drawn.standard_error))
        low, high = drawn.confidence_interval
        return rho, float(low), float(high)


def judgements(vectors: KeyedVectors, name: str) -> Judged:
    """People's judgements of pairs beside the cosines of their vectors; case is ignored.

    Args:
        vectors: of the words.
        name: WordSim-353 (relatedness, 0 to 10) or SimLex-999 (similarity, 0 to 10).

    Raises:
        UserError: gensim is not installed, or lacks the file of judgements.
    """
    known = _caseless(vectors)
    rows = [
        line.split("\t")
        for line in gensim_file(JUDGEMENTS[name]).read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    covered = [row for row in rows if row[0].upper() in known and row[1].upper() in known]
    cosines = [vectors.similarity(known[a.upper()], known[b.upper()]) for a, b, _ in covered]
    return Judged(len(rows), np.array([float(row[2]) for row in covered]), np.array(cosines))


def examine(vectors: KeyedVectors) -> Figures:
    """All test sets as figures of a report: ρ, percentage of right answers, coverage.

    Items with a word that has no vector are skipped; the share of the others is reported.

    Raises:
        UserError: as ``analogies``.
    """
    figures: Figures = {}
    for name in JUDGEMENTS:
        judged = judgements(vectors, name)
        if len(judged.people) >= MIN_PAIRS:
            rho, low, high = judged.correlation()
            figures |= {
                f"{name}, Spearman's ρ": rho,
                f"{name}, ρ, 95 % from": low,
                f"{name}, ρ, 95 % to": high,
            }
        figures[f"{name}, pairs covered of {judged.asked}"] = len(judged.people)
    answers = analogies(vectors)["all"]
    if len(answers.right):
        figures["analogies, % right"] = Estimate.of(100 * answers.right)
    figures[f"analogies covered of {answers.asked}"] = len(answers.right)
    return figures
