"""VAE with categorical latents, trained through Gumbel-softmax (Jang et al. 2017).

lowerbound fit categorical_vae --data binarized-mnist --variables 20 --classes 10
"""

from __future__ import annotations

from guides.categorical import AmortizedOneHot
from inference.data.sources import load_splits
from inference.estimators import GumbelSoftmax
from inference.recipes.contract import Recipe
from inference.recipes.images.data.binarize import flat_binary
from inference.recipes.images.options import CategoricalVAEOptions as Options
from inference.recipes.images.sbn import report
from ppl_models.categorical_vae import CategoricalVAE
from ppl_models.networks import mlp


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    splits = load_splits(options.data, options.range)
    train, valid, test = map(flat_binary, (splits.train, splits.valid, splits.test))
    pixels, size = train.tensors["x"].shape[1], len(train)
    code = (options.variables, options.classes)
    length = options.variables * options.classes
    relaxed = GumbelSoftmax(temperature=options.temperature)
    return Recipe(
        model=CategoricalVAE(mlp([length, *options.hidden[::-1], pixels]), *code, size),
        guide=AmortizedOneHot(mlp([pixels, *options.hidden, length]), *code, size),
        train=train,
        valid=valid,
        estimator=relaxed if options.estimator == "GumbelSoftmax" else None,
        report=lambda run: report(run, test, test_samples=0),
    )
