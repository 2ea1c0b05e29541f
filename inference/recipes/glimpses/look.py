"""``lowerbound look``: say what pictures show, with trained glimpses, and draw where it looked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyro
import torch
from torch import Tensor

from inference.data.readers.pictures import decode_picture, in_colour, picture_bytes
from inference.recipes.glimpses.options import GlimpsesOptions, LookOptions
from inference.recipes.glimpses.problem import Problem, program
from inference.recipes.glimpses.report import pictures
from inference.recipes.glimpses.report.figures import predicted
from inference.results.restored import part_of
from inference.util import rng
from inference.util.errors import UserError
from inference.util.files import distinct, read_json
from inference.util.reading import reading
from inference.util.terminal import printable
from ppl_models.glimpses import Glimpses

PREFIX, PROBLEM = "model.", "problem.json"


def run(options: LookOptions) -> None:
    """Print the most probable classes of each picture; keep a picture and a gif of the looks."""
    with reading(f"the glimpses in {options.run}", "give the directory of another run"):
        model, problem, glimpse = trained(options.run)
    images = [read(file, problem.image) for file in options.images]
    x = torch.stack(images).to(next(model.parameters()).dtype)
    with rng.forked(0):
        with torch.no_grad(), pyro.plate("draws", options.draws, dim=-2):
            probabilities = predicted(model, model(x)).mean(1)
        walks = pictures.walks(model, x)
    names = distinct(options.images)
    for i, file in enumerate(options.images):
        print(printable(f"{file}: {spoken(probabilities[:, i], problem.end)}"))
        pictures.animate(walks[i], glimpse, options.run / "looks" / f"{names[i]}.gif")
    pictures.draw(walks, names, glimpse, options.run / "looks" / "looks.png")
    print(printable(f"where it looked: {options.run / 'looks'}"))


def spoken(probabilities: Tensor, end: int | None) -> str:
    """The most probable class (S, classes) of each target up to the end, with its probability."""
    words = []
    for probability, which in zip(*(part.tolist() for part in probabilities.max(-1)), strict=True):
        if which == end:
            break
        words.append(f"{which} ({probability:.0%})")
    return " ".join(words) or "nothing"


def trained(directory: Path) -> tuple[Glimpses, Problem, int]:
    """(the model of a finished run's first seed, what it looks at, the side of its glimpse).

    Raises:
        UserError: the directory holds no finished run of the recipe.
    """
    saved, weights = part_of(directory, "glimpses", PREFIX, PROBLEM)
    found = read_json(directory / PROBLEM)
    problem = Problem(**{**found, "image": tuple(found["image"])})
    names = GlimpsesOptions.__dataclass_fields__
    options = GlimpsesOptions(**{k: v for k, v in saved.items() if k in names})
    model = program(options, problem, size=1)
    model.load_state_dict(weights)
    return model.eval(), problem, options.glimpse


def read(file: Path, shape: tuple[int, int, int]) -> Tensor:
    """A picture as (C, H, W) in [0, 1].

    Raises:
        UserError: it cannot be read, or has another size than those of training.
    """
    channels, height, width = shape
    picture = decode_picture(str(file), picture_bytes(file))
    picture = in_colour(picture).convert("RGB" if channels == 3 else "L")
    if picture.size != (width, height):
        raise UserError(
            f"{file} is {picture.size[1]} × {picture.size[0]}; this run looks at {height} × "
            f"{width}: crop or scale it"
        )
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 255)
    return pixels.reshape(height, width, channels).movedim(-1, 0)
