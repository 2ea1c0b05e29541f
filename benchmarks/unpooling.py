"""A step of the deconvolutional model on 28 × 28 images: compiled, against plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import Row, Step, in_turn, rows
from guides.deconvolutional import Convolutional
from inference.data.columns import Batch
from inference.engine.gradient.captured import CapturedGradient
from inference.engine.gradient.plain import PlainGradient
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from inference.estimators import GumbelSoftmax
from ppl_models.deconvolutional import Deconvolutional, Layer, levels
from ppl_models.label_heads import Softmax

ROWS, CLASSES, TEMPERATURE, WEIGHT = 128, 10, 0.7, 78.4
LAYERS = [Layer(30, 8, 3), Layer(80, 6)]
GOALS = {"plain PyTorch": 1.0, "uncompiled": 1.0}
OURS = "compiled"


def programs() -> tuple[Deconvolutional, Convolutional]:
    """The same weights for all contenders."""
    torch.manual_seed(0)
    shapes = levels((1, 28, 28), LAYERS)
    head = Softmax(shapes[-1].pooled.numel(), CLASSES)
    model = Deconvolutional(shapes, ROWS, head, WEIGHT)
    return model, Convolutional(model)


def by_hand(model: Deconvolutional, guide: Convolutional, x: Tensor, y: Tensor) -> Tensor:
    """−ELBO a datum with the library's convolutions, as one would write it without Pyro."""
    encoder, side = guide.encoder, LAYERS[0].pool
    features = F.conv2d(x, encoder.filters[0])
    cells = features.unflatten(-2, (-1, side)).unflatten(-1, (-1, side))
    cells = cells.movedim(-3, -2).flatten(-2)  # (B, K, h, w, p²)
    log_q = encoder.where["1"](cells).log_softmax(-1)
    z = ((log_q + gumbel(log_q)) / TEMPERATURE).softmax(-1)
    top = F.conv2d((cells * z).sum(-1), encoder.filters[1])
    code = encoder.code(top.flatten(-2)[..., None, None, :])[..., 0, 0, :]
    mean, log_scale = (part.flatten(1) for part in code.chunk(2, -1))
    log_scale = log_scale - 1
    s = mean + log_scale.exp() * torch.randn_like(mean)
    low = F.conv_transpose2d(s.unflatten(-1, model.code), model.dictionaries[1])
    placed = (low.unsqueeze(-1) * z).unflatten(-1, (side, side)).movedim(-2, -3)
    image = F.conv_transpose2d(placed.flatten(-2).flatten(-3, -2), model.dictionaries[0])
    log_x = -0.5 * model.log_precision.exp() * (x - image) ** 2 + 0.5 * model.log_precision
    kl_s = 0.5 * (mean**2 + (2 * log_scale).exp() - 1) - log_scale
    kl_z = (z * (log_q + math.log(side**2))).sum((1, 2, 3, 4))
    said = F.cross_entropy(model.head.score(s), y, reduction="none")
    return (kl_s.sum(1) + kl_z + WEIGHT * said - log_x.sum((1, 2, 3))).mean()


def gumbel(like: Tensor) -> Tensor:
    """Independent Gumbel noise."""
    return -(-torch.rand_like(like).clamp(1e-7, 1 - 1e-7).log()).log()


def plain(batch: Batch) -> Step:
    """Loss, backward and a fused Adam, without Pyro."""
    model, guide = programs()
    parameters = [*model.parameters(), *guide.encoder.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        by_hand(model, guide, batch["x"], batch["y"]).backward()
        optimizer.step()

    return step


def ours(batch: Batch, compiled: bool) -> Step:
    """The program, captured or not."""
    program = Program(*programs())
    with program.scope():
        program.initialise(batch, ROWS)
    terms = Terms(GumbelSoftmax(temperature=TEMPERATURE, max_plate_nesting=1))
    kind = CapturedGradient if compiled else PlainGradient
    gradient = kind(program, terms, None, nullcontext)
    optimizer = torch.optim.Adam(list(gradient.named.values()), fused=True)

    def step() -> None:
        with program.scope():
            gradient(batch)
        optimizer.step()

    return step


def measure() -> Iterator[Row]:
    """Rows for a batch of 128 images."""
    batch = {"x": torch.rand(ROWS, 1, 28, 28), "y": torch.randint(CLASSES, (ROWS,))}
    contenders = {
        OURS: ours(batch, compiled=True),
        "plain PyTorch": plain(batch),
        "uncompiled": ours(batch, compiled=False),
    }
    times = in_turn(contenders, blocks=15, steps=2)
    yield from rows("unpooling, 1,470 blocks of 9", OURS, GOALS, times)
