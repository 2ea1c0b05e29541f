"""``lowerbound highlight``: mark the units on which the label of a text rests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.text import Text

from inference.data.vocabulary import Vocabulary
from inference.recipes.rationales.data.columns import over_words, words_of
from inference.recipes.rationales.data.documents import (
    Document,
    refuse_unusable,
    sentences_of,
    units,
)
from inference.recipes.rationales.options import HighlightOptions, RationalesOptions
from inference.recipes.rationales.problem import Model, programs
from inference.recipes.rationales.report.predictions import answer
from inference.recipes.rationales.report.scores import at_rate
from inference.results.restored import part_of
from inference.util import rng
from inference.util.files import read_json
from inference.util.reading import reading, text_of
from inference.util.terminal import printable

PREFIX, VOCABULARY, LABELS = "model.", "vocabulary.json", "labels.json"
DRAWS = 50


def run(options: HighlightOptions) -> None:
    """Print each text with its rationale marked, and what the model says of it."""
    with reading(f"the rationales in {options.run}", "give the directory of another run"):
        model, recipe, vocabulary, labels = trained(options.run)
    longest = 1 if recipe.unit == "word" else recipe.longest
    console = Console(highlight=False)
    for file in options.texts:
        document = read(file, recipe.limit)
        x = words_of([document], vocabulary, longest)
        with rng.forked(0), torch.no_grad():
            found = answer(model, x, DRAWS)
        chosen = int(found.averaged[0].argmax())
        label = labels[chosen]
        print(printable(f"{file}: {label} ({float(found.averaged[0, chosen]):.0%})"))
        sizes = np.array([len(part.words) for part in units(document, longest)])
        kept = at_rate(found.scores[0].double().numpy()[: len(sizes)], sizes, options.rate)
        console.print(marked(document, over_words(document, kept, longest)), "")


def marked(document: Document, kept: np.ndarray) -> Text:
    """The words, the kept ones between » and « and in bold."""
    text, inside = Text(), False
    words = [word for sentence in document.sentences for word in sentence]
    for word, keep in zip(words, kept.tolist(), strict=True):
        if inside and not keep:
            text.append("« ", "bold")
        elif keep and not inside:
            text.append("»", "bold")
        inside = keep
        text.append(f"{printable(word)} ", "bold" if keep else "")
    return text.append("«", "bold") if inside else text


def read(file: Path, limit: int) -> Document:
    """A text file as a document.

    Raises:
        UserError: it cannot be read, is empty, or has more words than training allowed.
    """
    document = Document(str(file), sentences_of(text_of(file)), "")
    refuse_unusable(document, limit)
    return document


def trained(directory: Path) -> tuple[Model, RationalesOptions, Vocabulary, list[str]]:
    """(the model of a finished run's first seed, its options, its words, its labels).

    Raises:
        UserError: the directory holds no finished run of the recipe.
    """
    saved, weights = part_of(directory, "rationales", PREFIX, VOCABULARY, LABELS)
    vocabulary, labels = Vocabulary.load(directory / VOCABULARY), read_json(directory / LABELS)
    known = RationalesOptions.__dataclass_fields__
    options = RationalesOptions(**{k: v for k, v in saved.items() if k in known})
    vectors = torch.zeros_like(weights["reader.words"])
    model, _ = programs(options, vectors, len(labels), size=1)
    model.load_state_dict(weights)
    return model.to(vectors.dtype).eval(), options, vocabulary, labels
