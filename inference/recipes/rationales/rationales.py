"""Rationales (Lei et al. 2016): a label, and the units of the text that it rests on.

lowerbound fit rationales --data movies --vectors glove --rate 0.2
lowerbound fit rationales --data reviews.csv --unit word --selection 0.01 --coherence 0.02
"""

from __future__ import annotations

from collections.abc import Sequence

from inference.data.vocabulary import Vocabulary
from inference.recipes.contract import Recipe
from inference.recipes.named_estimators import named_baseline
from inference.recipes.rationales.data.columns import columns
from inference.recipes.rationales.data.documents import Document, Texts, load_texts
from inference.recipes.rationales.data.vectors import initial_vectors
from inference.recipes.rationales.options import RationalesOptions as Options
from inference.recipes.rationales.problem import programs
from inference.recipes.rationales.report.figures import report
from inference.util.errors import UserError


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    texts = load_texts(options.data, options.limit)
    train = [*texts.train, *further(options, texts)]
    vocabulary = vocabulary_of(train, options.minimum)
    vectors = initial_vectors(options.vectors, vocabulary)
    model, guide = programs(options, vectors, len(texts.labels), len(train))
    longest = 1 if options.unit == "word" else options.longest
    human, held_out = (options.human, 0.0) if options.human else (None, None)
    return Recipe(
        model,
        guide,
        columns(train, vocabulary, texts.labels, longest, human),
        columns(texts.valid, vocabulary, texts.labels, longest, held_out),
        baseline=named_baseline(options, 1, lambda x, **_: (x > 0).any(-1).sum(-1, True) / 100),
        report=lambda run: report(run, options, texts, vocabulary),
    )


def further(options: Options, texts: Texts) -> Sequence[Document]:
    """The texts of ``--also``.

    Raises:
        UserError: their labels are others.
    """
    if options.also is None:
        return []
    more = load_texts(options.also, options.limit)
    if more.labels != texts.labels:
        raise UserError(
            f"--also {options.also} has the labels {', '.join(more.labels)}, --data "
            f"{', '.join(texts.labels)}: give texts of the same labels"
        )
    return [*more.train, *more.valid, *more.test]


def vocabulary_of(documents: Sequence[Document], minimum: int) -> Vocabulary:
    """The words that the texts have at least ``minimum`` times."""
    return Vocabulary.from_texts(
        (sentence for document in documents for sentence in document.sentences), minimum
    )
