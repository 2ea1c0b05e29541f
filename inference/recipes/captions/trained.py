"""A trained captioner, read from the directory of its run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from inference.data.vocabulary import Vocabulary
from inference.util.errors import UserError
from inference.util.files import load_checkpoint, read_json
from inference.util.reading import reading
from ppl_models.captioner import Captioner

PREFIX = "model.captioner."


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
    config, checkpoint = directory / "config.json", directory / "checkpoint.pt"
    vocabulary = directory / "vocabulary.json"
    for file in (config, checkpoint, vocabulary):
        if not file.exists():
            raise UserError(
                f"{directory} holds no finished captioner ({file.name} is missing): give the "
                "directory of a lowerbound fit captioner that ran to its end"
            )
    with reading(f"the captioner in {directory}", "give the directory of another run"):
        options = read_json(config)["recipe"]
        states = load_checkpoint(checkpoint)
        parameters = next(iter(states.values()))["program"]["parameters"]
        weights = {n.removeprefix(PREFIX): p for n, p in parameters.items() if n.startswith(PREFIX)}
        words, width = weights["embed.weight"].shape
        features = weights["key.weight"].shape[1]
        captioner = Captioner(features, words, width, options["hidden"]).eval()
        captioner.load_state_dict(weights)
        return Trained(options, Vocabulary.load(vocabulary), captioner)
