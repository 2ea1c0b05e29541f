"""The flags of the recipe of labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inference.recipes.options import (
    EstimatorName,
    MayChange,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Training,
)


@dataclass(frozen=True)
class ImagesLabelsOptions(Training):
    """Images and few labels: a deconvolutional VAE with stochastic unpooling, or M2."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10 (the subset), or the path of a file or folder."""
    model: Literal["deconvolutional", "m2"] = "deconvolutional"
    """Pu et al. 2016's model, or Kingma et al. 2014's M2 (M1+M2 with --codes)."""
    labels: PositiveInt | None = None
    """How many images have a label, the same number of each class [all]."""
    label_seed: NonNegativeInt = 0
    """Which images have one."""
    images: Literal["all", "labelled"] = "all"
    """Train on all images, or on those with a label alone."""
    layers: str | None = None
    """Layers from the bottom up, as in "30x8 pool 3, 80x6" [the paper's, by the images' size]."""
    padding: Literal["valid", "same"] = "valid"
    """Whether maps are smaller than what is below them by kernel - 1, or of the same size."""
    head: Literal["softmax", "svm", "augmented-svm"] = "softmax"
    """What is said of a code: softmax, or the Bayesian SVM with its latent summed out or drawn."""
    gamma: PositiveFloat = 1.0
    """Of the SVM: nats of a unit of the hinge, halved."""
    weight: PositiveFloat | None = None
    """Of a label beside an image, xi [pixels / (classes x share of labels)]."""
    latent_dim: PositiveInt = 50
    """For m2: length of z."""
    hidden: tuple[PositiveInt, ...] = (500,)
    """For m2: widths of the MLPs' hidden layers."""
    codes: Path | None = None
    """For m2: a finished fit of the recipe vae, whose codes take the place of the images."""
    alpha: NonNegativeFloat = 0.1
    """For m2: weight of log q(y | x), times images / labels."""
    label: Literal["summed", "drawn"] = "summed"
    """For m2: whether an unknown label is summed out or drawn."""
    estimator: EstimatorName = "GumbelSoftmax"
    """Gradient estimator."""
    temperature: PositiveFloat = 0.7
    """Temperature of GumbelSoftmax."""
    hard: bool = True
    """For GumbelSoftmax: one-hot draws with the relaxed ones' gradient."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    judge: MayChange[Literal["valid", "test"]] = "test"
    """The images that the report is about; choose options on the validation images."""
    test_samples: MayChange[PositiveInt] = 20
    """K: draws over which predictions are averaged."""
