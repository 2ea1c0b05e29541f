"""VAE with categorical latents, trained through Gumbel-softmax (Jang et al. 2017).

lowerbound fit categorical_vae --data binarized-mnist --variables 20 --classes 10
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.recipes.contract import EstimatorName, Recipe, Training

if TYPE_CHECKING:
    from inference.results.run import Run


@dataclass(frozen=True)
class Options(Training):
    """A VAE whose code is V one-hot variables of C classes."""

    data: str = "digits"
    """Any source of images in [0, 1]: grey levels are binarised dynamically."""
    variables: int = 20
    """V."""
    classes: int = 10
    """C."""
    hidden: tuple[int, ...] = (200,)
    """Widths of the hidden layers."""
    estimator: EstimatorName = "GumbelSoftmax"
    """Gradient estimator."""
    temperature: float = 0.7
    """Of GumbelSoftmax."""


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    from guides.categorical import AmortizedOneHot
    from inference.data.sources import load
    from inference.estimators import GumbelSoftmax
    from inference.recipes.images.sbn import flat
    from ppl_models.categorical_vae import CategoricalVAE
    from ppl_models.networks import mlp

    splits = load(options.data)
    train, valid, test = (flat(part) for part in (splits.train, splits.valid, splits.test))
    pixels, size = train.tensors["x"].shape[1], len(train)
    code = (options.variables, options.classes)
    length = options.variables * options.classes
    relaxed = GumbelSoftmax(temperature=options.temperature)
    return Recipe(
        CategoricalVAE(mlp([length, *options.hidden[::-1], pixels]), *code, size),
        AmortizedOneHot(mlp([pixels, *options.hidden, length]), *code, size),
        train,
        valid,
        estimator=relaxed if options.estimator == "GumbelSoftmax" else None,
        report=lambda run: report(run, test),
    )


def report(run: Run, test: Any) -> dict[str, Any]:
    """The test bound at discrete draws."""
    from inference.results import evaluate

    return {"test ELBO": evaluate.importance_weighted_bound(run.programs[0], run.place(test), 1)}
