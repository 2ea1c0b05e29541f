"""Captions of pictures with their attention, as examples to plot."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor
from torch.distributions import OneHotCategorical

from inference.data.vocabulary import Vocabulary
from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.captions.data.pictures import Picture
from inference.recipes.captions.report.attention import Example
from inference.util import rng
from ppl_models.captioner import Captioner
from ppl_models.decoding import Captions, beam_search

MAX_WORDS = 30  # words


def search(captioner: Captioner, a: Tensor, beam: int, length_penalty: float) -> Captions:
    """The best caption of each picture (B, L, D)."""
    return beam_search(captioner, a, beam, MAX_WORDS, length_penalty)


def caption_at(said: Captions, row: int) -> Captions:
    """One picture's caption."""
    return Captions(*(column[row : row + 1] for column in said))


def example(
    picture: Picture,
    said: Captions,
    vocabulary: Vocabulary,
    attention: str,
    figures: Mapping[str, float],
) -> Example:
    """A caption with its picture and attention; with hard attention also the drawn locations."""
    side = math.isqrt(said.attention.shape[-1])
    words = vocabulary.decode(said.words[0].tolist()).split()
    alpha = said.attention[0, : len(words)]
    places = None
    if attention == "hard" and words:
        with rng.forked(EVALUATION_SEED):
            places = OneHotCategorical(alpha).sample().unflatten(-1, (side, -1))
    per_word = {"nats per word": float(said.log_prob[0] / said.lengths[0])}
    maps = alpha.unflatten(-1, (side, -1))
    return Example(
        picture.name,
        picture.open(),
        words,
        maps,
        places,
        picture.captions,
        per_word | dict(figures),
    )
