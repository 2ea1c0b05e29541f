"""What glimpses are measured against: a convolutional net that sees the whole image.

lowerbound fit benchmarks/convolutional.py --data cluttered --epochs 60
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from guides.empty import Empty
from inference.data.columns import Columns, slices
from inference.estimators import Pathwise
from inference.recipes.contract import Figures, Recipe
from inference.recipes.glimpses.glimpses import prepared
from inference.recipes.glimpses.problem import Problem
from inference.recipes.options import Training
from inference.results.run import Run
from inference.util.errors import UserError

AT_ONCE = 500  # images
LEAST = 28  # pixels a side


@dataclass(frozen=True)
class Options(Training):
    """A convolutional net on the canvases of the recipe glimpses."""

    data: str = "cluttered"
    """translated, cluttered, cluttered-100, pairs, addition, or a source of labelled images."""
    network: Literal["paper", "deeper"] = "deeper"
    """8 filters of 10 x 10, stride 5, and 256 units (Mnih et al. 2014); or about as many
    multiplications as eight glimpses take: 16 and 32 of 5 x 5, stride 2 and pooled, and 256."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""


class Classifier(PyroModule):
    """y ~ Categorical(softmax(network(x)))."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor, y: Tensor) -> None:
        """Images x (B, C, H, W), classes y (B,)."""
        with pyro.plate("data", self.size, subsample=x):
            pyro.sample("y", dist.Categorical(logits=self.network(x)), obs=y)


def build(options: Options) -> Recipe:
    """The program and the canvases."""
    (train, valid, test), problem = prepared(options.data)
    return Recipe(
        Classifier(network_of(options, problem), len(train)),
        Empty(),
        train,
        valid,
        estimator=Pathwise(),
        report=lambda run: report(run, test),
    )


def network_of(options: Options, problem: Problem) -> nn.Sequential:
    """The layers, down to logits.

    Raises:
        UserError: the images are too small, or show more than one class.
    """
    channels, *sides = problem.image
    if min(sides) < LEAST:
        raise UserError(
            f"--data {options.data}: images of {sides[0]} × {sides[1]}, and the convolutions need "
            f"at least {LEAST} × {LEAST}"
        )
    if problem.targets > 1:
        raise UserError(f"--data {options.data} says several classes an image: give data of one")
    features = {
        "paper": [nn.Conv2d(channels, 8, 10, stride=5), nn.ReLU()],
        "deeper": [
            *(nn.Conv2d(channels, 16, 5, stride=2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2)),
        ],
    }[options.network]
    flat = nn.Sequential(*features, nn.Flatten())
    width = flat(torch.zeros(1, *problem.image)).shape[1]
    head = [nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, problem.classes)]
    return nn.Sequential(*flat, *head)


def report(run: Run, test: Columns) -> Figures:
    """The test error."""
    test, wrong = run.place(test), []
    model = run.program().model
    assert isinstance(model, Classifier)
    with torch.no_grad():
        for rows in slices(len(test), AT_ONCE):
            batch = test.rows(rows)
            wrong.append(model.network(batch["x"]).argmax(-1) != batch["y"])
    return {"test error %": 100 * torch.cat(wrong).double().cpu()}
