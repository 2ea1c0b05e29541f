"""The program that options and texts make."""

from __future__ import annotations

from pyro.nn import PyroModule
from torch import Tensor

from guides.prior import Prior
from guides.rationales import Selected
from inference.recipes.rationales.options import RationalesOptions as Options
from inference.util.errors import UserError
from ppl_models.mask_chain import ChainPrior, Cost
from ppl_models.rationales import (
    ChainRationales,
    Predictor,
    Rationales,
    Selector,
    SequentialSelector,
)
from ppl_models.readers import Bag, Convolution, Reader, Recurrent

ENCODERS = {"bag": Bag, "convolution": Convolution, "lstm": Recurrent}
SELECTORS = {"independent": Selector, "sequential": SequentialSelector}
Model = Rationales | ChainRationales


def programs(
    options: Options, vectors: Tensor, classes: int, size: int
) -> tuple[Model, PyroModule]:
    """(model, guide) for texts of words with these initial vectors (V, E).

    Raises:
        UserError: the options contradict each other.
    """
    refuse_contradictions(options)
    model = model_of(options, vectors, classes, size)
    knows_label = options.guide == "label"
    if options.reading == "observed" and not knows_label:
        return model, Prior(model)
    return model, Selected(model, classes if knows_label else 0, options.width)


def model_of(options: Options, vectors: Tensor, classes: int, size: int) -> Model:
    """The model alone."""
    encoder, width = ENCODERS[options.encoder], options.width
    reader = Reader(vectors, width, encoder, options.pairs, options.dropout, frozen=options.frozen)
    selector = SELECTORS[options.masks](width, encoder, options.rate or 0.5)
    predictor = Predictor(width, encoder, classes)
    if options.reading == "observed":
        cost = Cost(options.selection, options.coherence, options.rate)
        return Rationales(reader, selector, predictor, cost, size)
    prior = ChainPrior(options.selection, options.coherence, options.learn_cost)
    return ChainRationales(reader, selector, predictor, prior, size, options.beta)


def refuse_contradictions(options: Options) -> None:
    """Raise a ``UserError`` for options of one reading that are given for the other."""
    if options.reading == "observed":
        for flag, given in {
            "--beta": options.beta != 1,
            "--learn-cost": options.learn_cost,
        }.items():
            if given:
                raise UserError(f"{flag} is of --reading prior: leave it out, or give that reading")
        return
    for flag, given in {"--rate": options.rate is not None, "--human": options.human > 0}.items():
        if given:
            raise UserError(f"{flag} is of --reading observed: leave it out, or give that reading")
    if options.masks == "sequential":
        raise UserError(
            "--masks sequential is of --reading observed: the prior's masks are one site; leave "
            "it out, or give that reading"
        )
