"""Show, attend and tell (Xu et al. 2015): captions of photographs, by attention for each word.

lowerbound fit captioner --attention soft
lowerbound fit captioner --attention hard --estimator LeaveOneOut --particles 2 --data flickr8k
"""

from __future__ import annotations

from pathlib import Path

import torch
from pyro.nn import PyroModule
from torch import Tensor

from guides.caption_aware import CaptionAware
from guides.empty import Empty
from guides.prior import Prior
from inference.data.columns import Columns
from inference.data.vocabulary import Vocabulary
from inference.recipes.captions.data.captions import load_captions
from inference.recipes.captions.data.encoders import default_encoder
from inference.recipes.captions.data.features import extract, features_file
from inference.recipes.captions.data.pictures import Captioned
from inference.recipes.captions.options import CaptionerOptions as Options
from inference.recipes.captions.report.figures import report
from inference.recipes.captions.trained import trained
from inference.recipes.contract import Recipe
from inference.recipes.named_estimators import named_baseline
from inference.util.errors import UserError
from ppl_models.captioner import Captioner, HardAttention, SoftAttention, alive


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    captioned, vocabulary, (train, valid, test) = prepared(options)
    features = train.tables["a"].shape[-1]
    captioner = Captioner(
        features, len(vocabulary), options.hidden, options.hidden, dropout=options.dropout
    )
    if options.start is not None:
        begin(captioner, options.start, vocabulary, options.seeds)
    model, guide = program(options, captioner, len(train))
    return Recipe(
        model,
        guide,
        train,
        valid,
        baseline=named_baseline(options, features, lambda a, y: a.mean(-2)),
        report=lambda run: report(run, options, captioned, vocabulary, test),
    )


def program(options: Options, captioner: Captioner, size: int) -> tuple[PyroModule, PyroModule]:
    """(model, guide) with soft attention, or with hard attention under one of two guides."""
    if options.attention == "soft":
        return SoftAttention(captioner, size, options.penalty), Empty()
    if options.guide == "prior":
        model = HardAttention(captioner, size, options.entropy, options.expected)
        return model, Prior(model)
    model = HardAttention(captioner, size, options.entropy, expected=0.0)
    return model, CaptionAware(captioner, size)


def prepared(options: Options) -> tuple[Captioned, Vocabulary, list[Columns]]:
    """The pictures, the vocabulary, and train, valid and test columns, see ``columns``."""
    captioned = load_captions(options.data)
    encoder = options.encoder or default_encoder(options.data)
    names = [picture.name for picture in captioned.pictures]
    file = features_file(options.data, names, encoder)
    grids = extract(captioned.pictures, encoder, options.features / file, options.device)
    vocabulary = Vocabulary.from_texts(captioned.captions("train"), options.minimum)
    table = torch.from_numpy(grids)
    parts = (captioned.columns(split, vocabulary) for split in ("train", "valid", "test"))
    return captioned, vocabulary, [columns(part, table) for part in parts]


def begin(captioner: Captioner, start: Path, vocabulary: Vocabulary, seeds: int) -> None:
    """Load the networks of a finished run into the captioner.

    Raises:
        UserError: the run is not finished, or has another vocabulary; the networks have other
            widths; there is more than one seed, as further ones draw new networks.
    """
    if seeds > 1:
        raise UserError(f"{seeds} seeds cannot all begin with the networks of {start}: fit one")
    found = trained(start)
    if found.vocabulary != vocabulary:
        raise UserError(f"{start} has another vocabulary: give the same data and --minimum")
    try:
        captioner.load_state_dict(found.captioner.state_dict())
    except RuntimeError:
        raise UserError(
            f"the networks of {start} have other widths: give the same encoder and --hidden"
        ) from None


def columns(rows: Columns, table: Tensor) -> Columns:
    """Captions with their pictures' grids: a (N,), row numbers of the table, and y (N, T).

    Where the objects' locations are known, ``places`` (N, T) is kept as a column.
    """
    tensors = dict(rows.tensors)
    tensors = {"a": tensors.pop("image"), **tensors}
    return Columns(tensors, tables={"a": table}, lengths={"y": alive(tensors["y"]).sum(1)})
