"""Images and few labels: Pu et al. 2016's deconvolutional VAE, or Kingma et al. 2014's M2.

lowerbound fit images-labels --data mnist --labels 1000
lowerbound fit images-labels --data mnist --labels 100 --model m2 --codes runs/vae
"""

from __future__ import annotations

from pyro.infer import ELBO

from inference.data.columns import Columns
from inference.estimators import GumbelSoftmax
from inference.recipes.contract import Recipe
from inference.recipes.labelled_images.data.codes import drawn_codes, mean_codes
from inference.recipes.labelled_images.data.columns import (
    Images,
    labelled_alone,
    load_images,
    semi_supervised,
)
from inference.recipes.labelled_images.options import ImagesLabelsOptions as Options
from inference.recipes.labelled_images.problem import deconvolutional, m2
from inference.recipes.labelled_images.report.figures import report, report_m2
from inference.util.errors import UserError


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    images = load_images(options.data)
    few = labelled_alone if options.images == "labelled" else semi_supervised
    train = few(images.train, options.labels, images.classes, options.label_seed)
    share = 1.0
    if options.images == "all" and options.labels is not None:
        share = min(1.0, options.labels / len(images.train))
    if options.model == "m2":
        return with_m2(options, images, train, share)
    if options.codes is not None:
        raise UserError("--codes are for --model m2: leave them out, or give that model")
    shape = train.tensors["x"].shape[1:]
    model, guide = deconvolutional(options, shape, images.classes, len(train), share)
    judged = images.test if options.judge == "test" else images.valid
    return Recipe(
        model,
        guide,
        train,
        images.valid,
        estimator=estimator(options),
        report=lambda run: report(run, judged, options.test_samples),
    )


def with_m2(options: Options, images: Images, train: Columns, share: float) -> Recipe:
    """M2 on the images, or on codes of them."""
    judged = images.test if options.judge == "test" else images.valid
    if options.codes is None:
        train, valid, judged = (flat(part) for part in (train, images.valid, judged))
    else:
        train, valid = (drawn_codes(part, options.codes) for part in (train, images.valid))
        judged = mean_codes(judged, options.codes)
    features = train.tensors["x"].shape[-1]
    model, guide = m2(options, features, images.classes, len(train), share)
    return Recipe(
        model,
        guide,
        train,
        valid,
        estimator=estimator(options),
        report=lambda run: report_m2(run, judged),
    )


def estimator(options: Options) -> ELBO | None:
    """GumbelSoftmax at its temperature; others are made from the options."""
    if options.estimator != "GumbelSoftmax":
        return None
    nesting = 2 if options.model == "m2" else 1
    return GumbelSoftmax(
        options.particles,
        temperature=options.temperature,
        hard=options.hard,
        vectorize_particles=options.particles > 1,
        max_plate_nesting=nesting,
    )


def flat(part: Columns) -> Columns:
    """Images as rows (N, D) of grey levels, the means of M2's Bernoulli pixels.

    Raises:
        UserError: pixels are no shares.
    """
    x = part.tensors["x"].flatten(1)
    if x.min() < 0 or x.max() > 1:
        raise UserError("M2's pixels are shares of ink in [0, 1]: give grey images, or --codes")
    return Columns({**part.tensors, "x": x})
