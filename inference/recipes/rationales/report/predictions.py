"""What trained rationales keep of a text, and say of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pyro
from torch import Tensor

from inference.recipes.rationales.problem import Model
from ppl_models.rationales import ChainRationales, SequentialSelector


class Answer(NamedTuple):
    """What is kept of texts and said of them; K draws of the mask."""

    units: Tensor  # (B, T, width) vectors of the units
    scores: Tensor  # (B, T) probability that each is kept
    valid: Tensor  # (B, T) bool, whether it exists
    averaged: Tensor  # (B, classes) mean of p(y | z, x) over K draws
    rate: Tensor  # (B,) share of units kept, mean over K draws


def answer(model: Model, x: Tensor, draws: int) -> Answer:
    """Run the selector and the predictor over words x (B, T, W)."""
    units, valid = model.reader(x)
    with pyro.plate("data", len(x)), pyro.plate("draws", draws, dim=-2):
        z = model.selector(units, valid)
    averaged = model.predictor(units, valid, z).softmax(-1).mean(0)
    scores = z.mean(0)
    if not isinstance(model.selector, SequentialSelector):
        scores = model.selector.logits(units, valid).sigmoid()  # exactly
    rate = z.sum(-1).mean(0) / valid.sum(-1)
    return Answer(units, scores * valid, valid, averaged, rate)


def said_of(model: Model, units: Tensor, valid: Tensor, kept: Tensor) -> Tensor:
    """p(y | z, x) (B, classes) of units (B, T, width) for these masks (B, T)."""
    return model.predictor(units, valid, kept.to(units.dtype) * valid).softmax(-1)


@contextmanager
def as_bound(model: Model) -> Iterator[None]:
    """Without weight on the prior, and without the constraint: so the ELBO is a bound."""
    owner, name = (model, "beta") if isinstance(model, ChainRationales) else (model.cost, "rate")
    before = getattr(owner, name)
    setattr(owner, name, 1.0 if name == "beta" else None)
    yield
    setattr(owner, name, before)
