"""Sigmoid belief network on binary images: the benchmark of gradients for discrete latents.

lowerbound fit sbn --estimator DisARM --epochs 50
lowerbound audit sbn --at 0 500
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from guides.sigmoid_belief import BottomUpBernoulli
from inference.data.columns import Columns
from inference.data.sources import load_splits
from inference.estimators import GumbelSoftmax
from inference.recipes.contract import Figures, Recipe
from inference.recipes.images.data.binarize import flat_binary
from inference.recipes.images.options import SBNOptions as Options
from inference.recipes.named_estimators import named_baseline
from inference.results import evaluate
from inference.results.run import Run
from inference.util.errors import UserError
from ppl_models.networks import mlp
from ppl_models.sigmoid_belief import SigmoidBeliefNetwork


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    if not options.latent_dims:
        raise UserError("--latent-dims is empty: give the units of one layer or more")
    splits = load_splits(options.data, options.range)
    train, valid, test = map(flat_binary, (splits.train, splits.valid, splits.test))
    pixels = train.tensors["x"].shape[1]
    mean = train.tensors["x"].float().mean(0)
    dims = (pixels, *options.latent_dims)
    down = [layer_network(options, above, below) for below, above in itertools.pairwise(dims)]
    up = [layer_network(options, below, above) for below, above in itertools.pairwise(dims)]
    start_at_mean(down[0], mean)
    relaxed = GumbelSoftmax(temperature=options.temperature)
    return Recipe(
        model=SigmoidBeliefNetwork(down, dims[-1], size=len(train)),
        guide=BottomUpBernoulli(up, mean, size=len(train)),
        train=train,
        valid=valid,
        estimator=relaxed if options.estimator == "GumbelSoftmax" else None,
        baseline=named_baseline(options, pixels, lambda x: x),
        report=lambda run: report(run, test, options.test_samples),
    )


def layer_network(options: Options, inputs: int, outputs: int) -> nn.Module:
    """The network between two layers."""
    if options.network == "linear":
        return nn.Linear(inputs, outputs)
    return mlp([inputs, 200, 200, outputs], nn.Tanh)


def start_at_mean(decoder: nn.Module, mean: Tensor) -> None:
    """Initialise the decoder's last bias to the logits of the pixels' mean."""
    *_, last = (part for part in decoder.modules() if isinstance(part, nn.Linear))
    with torch.no_grad():
        last.bias.copy_(torch.logit(mean.clamp(0.001, 0.999)))


def report(run: Run, test: Columns, test_samples: int) -> Figures:
    """The test bound at discrete draws and (if asked) L_K, of the first seed."""
    test, program = run.place(test), run.programs[0]
    figures: Figures = {"test ELBO": evaluate.importance_weighted_bound(program, test, 1)}
    if test_samples:
        bounds = evaluate.importance_weighted_bound(program, test, test_samples)
        figures[f"test L_{test_samples}"] = bounds
    return figures
