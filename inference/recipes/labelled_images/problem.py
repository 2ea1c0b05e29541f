"""The program that options and images make."""

from __future__ import annotations

import re

from pyro.nn import PyroModule
from torch import Size, nn

from guides.deconvolutional import Convolutional
from guides.semi_supervised import EveryLabel, LabelThenCode
from inference.recipes.labelled_images.options import ImagesLabelsOptions as Options
from inference.util.errors import UserError
from ppl_models.deconvolutional import Deconvolutional, Layer, Level, levels
from ppl_models.label_heads import LabelHead, Softmax
from ppl_models.likelihoods import Bernoulli, Gaussian
from ppl_models.networks import mlp
from ppl_models.semi_supervised import M2, SummedM2
from ppl_models.support_vector import Augmented, Hinge

PAPERS = {  # side of the images → layers of Pu et al. 2016, table 2; 8: for scikit-learn's digits
    8: "16x3 pool 2, 32x3",
    28: "30x8 pool 3, 80x6",
    32: "48x5 pool 2, 128x5 pool 2, 128x5",
}
LAYER = re.compile(r"\s*(\d+)\s*[x×]\s*(\d+)²?(?:\s+pool\s+(\d+))?\s*")


def deconvolutional(
    options: Options, image: Size, classes: int, size: int, share: float
) -> tuple[PyroModule, PyroModule]:
    """(model, guide) of Pu et al. 2016 for images (C, H, W) of which a share has a label."""
    shapes = levels_of(options, image)
    model = Deconvolutional(
        shapes,
        size,
        head_of(options, shapes[-1].pooled.numel(), classes),
        options.weight or image.numel() / (classes * share),
    )
    return model, Convolutional(model)


def levels_of(options: Options, image: Size) -> list[Level]:
    """The maps of the layers.

    Raises:
        UserError: the layers cannot be read, or do not fit the images.
    """
    text = options.layers or PAPERS.get(image[1])
    if text is None:
        raise UserError(
            f'the paper has no layers for images of {image[1]} × {image[2]}: give --layers "30x8 '
            'pool 3, 80x6", elements x side, from the bottom up'
        )
    try:
        return levels(image, layers_of(text), options.padding == "same")
    except ValueError as error:
        raise UserError(f'--layers "{text}" do not fit: {error}') from None


def layers_of(text: str) -> list[Layer]:
    """``30x8 pool 3, 80x6`` → layers.

    Raises:
        UserError: a part is none.
    """
    found = []
    for part in text.split(","):
        match = LAYER.fullmatch(part)
        numbers = [int(n or 1) for n in match.groups()] if match else [0]
        if min(numbers) < 1:
            raise UserError(
                f"--layers has {part.strip()!r}: give elements x side and what is pooled, as in "
                '"30x8 pool 3, 80x6"'
            )
        found.append(Layer(*numbers))
    return found


def head_of(options: Options, features: int, classes: int) -> LabelHead:
    """What is said of a code."""
    if options.head == "softmax":
        return Softmax(features, classes)
    kind = Hinge if options.head == "svm" else Augmented
    return kind(features, classes, options.gamma)


def m2(
    options: Options, features: int, classes: int, size: int, share: float
) -> tuple[PyroModule, PyroModule]:
    """(model, guide) of Kingma et al. 2014 for rows (D,) of which a share has a label."""
    hidden, code = options.hidden, options.latent_dim
    kind, its_guide = (SummedM2, EveryLabel) if options.label == "summed" else (M2, LabelThenCode)
    model = kind(
        mlp([classes + code, *hidden[::-1], features], nn.Softplus),
        mlp([features, *hidden, classes], nn.Softplus),
        Bernoulli() if options.codes is None else Gaussian(),
        code,
        size,
        options.alpha / share,
    )
    return model, its_guide(model, mlp([classes + features, *hidden, 2 * code], nn.Softplus))
