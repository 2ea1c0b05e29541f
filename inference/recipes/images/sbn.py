"""Sigmoid belief network on binary images: the benchmark of gradients for discrete latents.

lowerbound fit sbn --estimator DisARM --epochs 50
lowerbound audit sbn --at 0 500
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from inference.recipes.contract import EstimatorName, Recipe, Training

if TYPE_CHECKING:
    from pyro.infer import ELBO

    from inference.results.run import Run


@dataclass(frozen=True)
class Options(Training):
    """A sigmoid belief network of binary images: layers of 0/1 latents, NVIL's and ARM's model."""

    data: str = "binarized-mnist"
    """binarized-mnist, or any source of images in [0, 1]: grey levels are binarised dynamically."""
    latent_dims: tuple[int, ...] = (200,)
    """Units of the stochastic layers, from the bottom up."""
    network: Literal["linear", "nonlinear"] = "linear"
    """Between layers: one linear map, or two hidden tanh layers of 200 units before it."""
    estimator: EstimatorName = "DisARM"
    """Gradient estimator; ScoreFunction takes --baseline."""
    baseline: Literal["none", "average", "neural"] = "none"
    """Of ScoreFunction: none, a moving average, or NVIL's network with its variance normalised."""
    temperature: float = 0.5
    """Of GumbelSoftmax."""
    batch_size: int | None = 200
    """Rows a step."""
    test_samples: int = 0
    """K of the importance-weighted bound L_K on the test data (0: not computed)."""


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    from guides.sigmoid_belief import BottomUpBernoulli
    from inference.data.sources import load
    from ppl_models.sigmoid_belief import SigmoidBeliefNetwork

    splits = load(options.data)
    train, valid, test = (flat(part) for part in (splits.train, splits.valid, splits.test))
    pixels = train.tensors["x"].shape[1]
    mean = train.tensors["x"].float().mean(0)
    dims = (pixels, *options.latent_dims)
    down = [network(options, above, below) for below, above in itertools.pairwise(dims)]
    up = [network(options, below, above) for below, above in itertools.pairwise(dims)]
    start_at_mean(down[0], mean)
    size = len(train)
    return Recipe(
        SigmoidBeliefNetwork(down, dims[-1], size),
        BottomUpBernoulli(up, mean, size),
        train,
        valid,
        estimator=estimator(options, pixels),
        report=lambda run: report(run, test, options.test_samples),
    )


def flat(part: Any) -> Any:
    """Images as rows of pixels, binary (drawn anew for each batch if they are grey)."""
    from inference.data.columns import Columns
    from inference.recipes.images.data.binarize import binarize

    x = part.tensors["x"].flatten(1)
    is_binary = bool(((x == 0) | (x == 1)).all())
    return Columns({"x": x}, None if is_binary else binarize("x"))


def network(options: Options, inputs: int, outputs: int) -> Any:
    """One map between layers."""
    from torch import nn

    from ppl_models.networks import mlp

    if options.network == "linear":
        return nn.Linear(inputs, outputs)
    return mlp([inputs, 200, 200, outputs], nn.Tanh)


def start_at_mean(decoder: Any, mean: Any) -> None:
    """The decoder's last bias: the pixels' mean as logits, so that training need not find it."""
    import torch
    from torch import nn

    last = decoder if isinstance(decoder, nn.Linear) else decoder[-1]
    with torch.no_grad():
        last.bias.copy_(torch.logit(mean.clamp(0.001, 0.999)))


def estimator(options: Options, pixels: int) -> ELBO:
    """The named estimator with its options."""
    from inference.estimators import GumbelSoftmax
    from inference.recipes.named_estimators import baselined

    if options.estimator == "GumbelSoftmax":
        return GumbelSoftmax(temperature=options.temperature)
    return baselined(options, pixels, lambda x: x)


def report(run: Run, test: Any, test_samples: int) -> dict[str, Any]:
    """The test bound at discrete draws and (if asked) L_K, of the first seed."""
    from inference.results import evaluate

    test = run.place(test)
    figures: dict[str, Any] = {
        "test ELBO": evaluate.importance_weighted_bound(run.programs[0], test, 1)
    }
    if test_samples:
        bounds = evaluate.importance_weighted_bound(run.programs[0], test, test_samples)
        figures[f"test L_{test_samples}"] = bounds
    return figures
