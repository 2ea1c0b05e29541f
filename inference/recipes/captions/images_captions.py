"""Captions of a deconvolutional model's code (Pu et al. 2016), of all or of few of the pictures.

lowerbound fit images-captions --data flickr8k --captions 0.1
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Size, Tensor

from guides.deconvolutional import Convolutional
from inference.data.columns import Columns
from inference.data.vocabulary import Vocabulary
from inference.estimators import GumbelSoftmax
from inference.recipes.captions.data.captions import load_captions
from inference.recipes.captions.data.encoders import default_encoder
from inference.recipes.captions.data.features import extract
from inference.recipes.captions.data.pictures import Captioned, Split
from inference.recipes.captions.options import ImagesCaptionsOptions as Options
from inference.recipes.captions.report.of_codes import report
from inference.recipes.contract import Recipe
from inference.util.errors import UserError
from ppl_models.caption_head import NO_CAPTION, Caption, features
from ppl_models.captioner import Captioner, alive
from ppl_models.deconvolutional import Deconvolutional, Layer, levels


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    captioned = load_captions(options.data)
    vocabulary = Vocabulary.from_texts(captioned.captions("train"), options.minimum)
    grids = grids_of(options, captioned)
    shares: dict[Split, float] = {"train": options.captions, "valid": 1.0, "test": 1.0}
    parts = [
        columns(captioned.columns(split, vocabulary), grids, share)
        for split, share in shares.items()
    ]
    image = grids.shape[1:]
    model = program(options, image, len(vocabulary), parts[0])
    return Recipe(
        model,
        Convolutional(model),
        parts[0],
        parts[1],
        estimator=GumbelSoftmax(temperature=options.temperature, max_plate_nesting=1),
        report=lambda run: report(run, options, captioned, vocabulary, parts[2]),
    )


def grids_of(options: Options, captioned: Captioned) -> Tensor:
    """(M, C, h, w) a frozen encoder's grid of each picture, standardised: the images X."""
    encoder = options.encoder or default_encoder(options.data)
    file = f"{Path(options.data).name}-{encoder}.npy".replace(":", "-")
    rows = extract(captioned.pictures, encoder, options.features / file, options.device)
    grids = torch.from_numpy(rows).float()
    side = round(grids.shape[1] ** 0.5)
    grids = (grids - grids.mean((0, 1))) / grids.std()
    return grids.mT.unflatten(-1, (side, side))


def program(options: Options, image: Size, words: int, train: Columns) -> Deconvolutional:
    """The model, with a caption's weight ξ = numbers in X / (words of a caption · their share).

    Raises:
        UserError: the layers do not fit the grid.
    """
    layers = [Layer(options.maps, options.kernel, options.pool), Layer(options.top, 1)]
    try:
        shapes = levels(image, layers)
    except ValueError as error:
        raise UserError(f"--kernel and --pool do not fit a grid of {image[1]}: {error}") from None
    code, y = shapes[-1].pooled, train.tensors["y"]
    captioner = Captioner(
        features(code, options.attention),
        words,
        options.hidden,
        options.hidden,
        dropout=options.dropout,
    )
    known = y[:, 0] != NO_CAPTION
    spoken = float(alive(y[known]).sum()) / int(known.sum())
    share = float(known.double().mean())
    weight = options.weight or image.numel() / (spoken * share)
    return Deconvolutional(shapes, len(y), Caption(captioner, code, options.attention), weight)


def columns(rows: Columns, grids: Tensor, share: float) -> Columns:
    """One row a caption: x, row numbers of the grids, and y (N, T).

    The captions of a fixed share of the pictures are kept; ``NO_CAPTION`` stands for others.
    """
    y, picture = rows.tensors["y"], rows.tensors["image"]
    if share < 1:
        generator = torch.Generator().manual_seed(0)
        pictures = picture.unique()
        chosen = pictures[torch.randperm(len(pictures), generator=generator)]
        kept = chosen[: max(1, round(share * len(chosen)))]
        y = torch.where(torch.isin(picture, kept).unsqueeze(-1), y, NO_CAPTION)
    spoken = torch.where(y[:, 0] == NO_CAPTION, 1, alive(y).sum(1))
    return Columns({"x": picture, "y": y}, tables={"x": grids}, lengths={"y": spoken})
