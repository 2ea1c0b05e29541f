"""A captioned picture and where its captioner looked."""

import torch
from PIL import Image

from inference.recipes.captions.report.attention import Example


def example(words=("a", "$dog$", "runs"), size=(60, 40), **changes):
    attention = torch.full((len(words) + 1, 2, 4), 0.05)
    attention[:, 1, 2] = 0.65
    places = torch.zeros_like(attention)
    places[:, 0, 3] = 1
    picture = Image.new("RGB", size, (120, 130, 140))
    return Example(**{
        "name": "x.jpg", "picture": picture, "words": words, "attention": attention,
        "places": places, "references": ["a dog"], "figures": {"CIDEr": 12.0}, **changes,
    })  # fmt: skip
