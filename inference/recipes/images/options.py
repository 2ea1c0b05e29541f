"""The flags of the recipes of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inference.recipes.options import (
    EstimatorName,
    ImageRange,
    MayChange,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Training,
    WithBaseline,
)


@dataclass(frozen=True)
class VAEOptions(Training):
    """A VAE of images: z ~ N(0, I), x ~ p(x | decoder(z)), q(z | x) a Gaussian by a network."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, binarized-mnist, hub:NAME, or the path of a file or folder."""
    range: ImageRange = None
    """Values of black and white in the data's images [found, and said]."""
    latent_dim: PositiveInt = 20
    """Length of z."""
    hidden: tuple[PositiveInt, ...] = (400,)
    """Widths of the MLP's hidden layers; for conv, the first number of channels."""
    network: Literal["mlp", "conv"] = "mlp"
    """Kind of encoder and decoder."""
    activation: Literal["relu", "tanh"] = "relu"
    """Activation of the MLP."""
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli"
    """p(x | z) of each pixel."""
    binarize: Literal["none", "dynamic"] = "none"
    """Draw pixels x ~ Bernoulli(grey level) anew for each batch."""
    validation: bool = True
    """Hold out the validation split; else it is trained on, as in published results."""
    test_samples: MayChange[NonNegativeInt] = 0
    """K of the importance-weighted bound L_K on the test data (0: not computed)."""


@dataclass(frozen=True)
class SBNOptions(WithBaseline):
    """A sigmoid belief network of binary images: layers of 0/1 latents, NVIL's and ARM's model."""

    data: str = "binarized-mnist"
    """binarized-mnist, or any source of images in [0, 1]: grey levels are binarised dynamically."""
    range: ImageRange = None
    """Values of black and white in the data's images [found, and said]."""
    latent_dims: tuple[PositiveInt, ...] = (200,)
    """Units of the stochastic layers, from the bottom up."""
    network: Literal["linear", "nonlinear"] = "linear"
    """Between layers: a linear map, or two hidden tanh layers of 200 units and a linear map."""
    estimator: EstimatorName = "DisARM"
    """Gradient estimator; ScoreFunction takes --baseline."""
    temperature: PositiveFloat = 0.5
    """Temperature of GumbelSoftmax."""
    batch_size: PositiveInt | None = 200
    """Rows a step."""
    test_samples: MayChange[NonNegativeInt] = 0
    """K of the importance-weighted bound L_K on the test data (0: not computed)."""


@dataclass(frozen=True)
class AttentionOptions(Training):
    """Hard attention: T one-hot latents choose patches of an image, to predict its label."""

    data: str = "digits"
    """A source of labelled images."""
    range: ImageRange = None
    """Values of black and white in the data's images [found, and said]."""
    patch: PositiveInt = 2
    """Side of a patch, pixels."""
    steps_of_attention: PositiveInt = 4
    """T, the number of patches looked at."""
    estimator: EstimatorName = "LeaveOneOut"
    """Gradient estimator."""
    particles: PositiveInt = 4
    """Draws from the guide a step."""
    batch_size: PositiveInt | None = 64
    """Rows a step."""


@dataclass(frozen=True)
class CategoricalVAEOptions(Training):
    """A VAE whose code is V one-hot variables of C classes."""

    data: str = "digits"
    """Any source of images in [0, 1]: grey levels are binarised dynamically."""
    range: ImageRange = None
    """Values of black and white in the data's images [found, and said]."""
    variables: PositiveInt = 20
    """V, the number of latent variables."""
    classes: PositiveInt = 10
    """C, the number of classes of each."""
    hidden: tuple[PositiveInt, ...] = (200,)
    """Widths of the hidden layers."""
    estimator: EstimatorName = "GumbelSoftmax"
    """Gradient estimator."""
    temperature: PositiveFloat = 0.7
    """Temperature of GumbelSoftmax."""
