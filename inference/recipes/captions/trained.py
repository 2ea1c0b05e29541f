"""A trained captioner, read from the directory of its run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from inference.data.vocabulary import Vocabulary
from inference.results.restored import part_of
from inference.util.reading import reading
from ppl_models.captioner import Captioner

PREFIX = "model.captioner."
VOCABULARY = "vocabulary.json"


class Trained(NamedTuple):
    """A finished run: the recipe's options, the vocabulary, the first seed's networks."""

    options: dict
    vocabulary: Vocabulary
    captioner: Captioner


def trained(directory: Path) -> Trained:
    """The captioner of a finished run.

    Raises:
        UserError: the directory holds no finished captioner.
    """
    with reading(f"the captioner in {directory}", "give the directory of another run"):
        options, weights = part_of(directory, "captioner", PREFIX, VOCABULARY)
        words, width = weights["embed.weight"].shape
        features = weights["key.weight"].shape[1]
        captioner = Captioner(features, words, width, options["hidden"]).eval()
        captioner.load_state_dict(weights)
        return Trained(options, Vocabulary.load(directory / VOCABULARY), captioner)
