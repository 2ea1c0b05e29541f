"""Pictures of noise, and encoders of them: right ones and wrong ones."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from inference.recipes.captions.data.features import BATCH
from inference.recipes.captions.data.pictures import Picture

image = pytest.importorskip("PIL.Image")
N = 2 * BATCH + 8


def png(seed):
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    image.fromarray(pixels).save(out, "png")
    return out.getvalue()


def pictures(n=N, read=png):
    return [Picture(f"{i}.png", "train", ("a dog",), lambda i=i: read(i)) for i in range(n)]


def random():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 5, 32, 32, dtype=torch.float32), nn.Tanh())


def flat():
    return nn.Flatten()


def huge():
    return nn.Threshold(2.0, 1e6)


def number():
    return 3
