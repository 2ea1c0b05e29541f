"""The program that options and images make."""

from __future__ import annotations

import os
from functools import partial
from typing import NamedTuple

from inference.recipes.glimpses.options import GlimpsesOptions as Options
from inference.util.errors import UserError
from ppl_models.glimpse_networks import DRAM, RAM, Network
from ppl_models.glimpses import Glimpses, Rewarded
from ppl_models.places import Anywhere, AtRandom, OnGrid, Places
from ppl_models.retina import Retina

COARSE = 12  # pixels, the longer side of what the context network sees


class Problem(NamedTuple):
    """What is looked at, and what is to be said: the images' shape, S targets, their classes."""

    image: tuple[int, int, int]
    classes: int
    targets: int = 1
    end: int | None = None


def program(options: Options, problem: Problem, size: int) -> Glimpses:
    """The model.

    Raises:
        UserError: a glimpse is larger than the image or too small to read, or a grid has one cell.
    """
    refuse_unusable(options, problem)
    retina = Retina(options.glimpse, options.scales, smooth=options.places == "smooth")
    patch = (problem.image[0] * options.scales, options.glimpse, options.glimpse)
    network = network_of(options, problem, patch)
    places = places_of(options, retina)
    kind = partial(Rewarded, weight=options.reward) if options.reward else Glimpses
    return kind(
        network,
        places,
        options.looks,
        size,
        targets=problem.targets,
        every=options.every,
        end=problem.end,
    )


def network_of(options: Options, problem: Problem, patch: tuple[int, int, int]) -> Network:
    """RAM, or DRAM with or without its context."""
    if options.network == "ram":
        return RAM(patch, problem.classes, options.width)
    channels, height, width = problem.image
    factor = max(height, width) / COARSE
    coarse = (channels, max(7, round(height / factor)), max(7, round(width / factor)))
    context = coarse if options.context else None
    return DRAM(patch, problem.classes, context, options.width)


def places_of(options: Options, retina: Retina) -> Places:
    """Where glimpses may be."""
    if options.places == "random":
        return AtRandom(retina)
    if options.places == "grid":
        return OnGrid(retina, options.width, options.grid)
    return Anywhere(retina, options.width, options.sigma, options.sigma_at_first)


def refuse_unusable(options: Options, problem: Problem) -> None:
    """Raise a ``UserError`` for options that make no program of these images."""
    _, height, width = problem.image
    if options.glimpse > min(height, width):
        raise UserError(
            f"--glimpse is {options.glimpse}: the images are {height} × {width}, give less"
        )
    if options.network == "dram" and options.glimpse < 7:
        raise UserError(
            f"--glimpse is {options.glimpse}: DRAM's three convolutions need at least 7, or use "
            "--network ram"
        )
    if options.sigma_at_first is not None:
        refuse_spread(options, options.sigma_at_first)
    if options.places == "grid" and options.grid < 2:
        raise UserError("--grid is 1: one cell leaves nothing to choose, give at least 2")
    if (needed := memory(options, problem)) > (there := total_memory()):
        raise UserError(
            f"--looks {options.looks} with {options.particles} particles of {options.batch_size} "
            f"images need about {needed / 2**30:.0f} GiB of {there / 2**30:.0f}: give fewer looks, "
            "particles or a smaller --batch-size"
        )


def refuse_spread(options: Options, at_first: float) -> None:
    """Raise a ``UserError`` for a spread that places do not have, or that has nowhere to go."""
    if options.places in ("grid", "random"):
        raise UserError(
            f"--sigma-at-first is for Gaussian places, not --places {options.places}: leave it out"
        )
    if at_first < options.sigma:
        raise UserError(
            f"--sigma-at-first is {at_first}, less than --sigma {options.sigma}: give more, or "
            "leave it out"
        )


def memory(options: Options, problem: Problem) -> float:
    """Bytes that a step keeps for its gradient, roughly: patches and layers of every look."""
    patch = problem.image[0] * options.scales * options.glimpse**2
    convolved = 128 * options.glimpse**2 if options.network == "dram" else 0
    numbers = patch + convolved + 8 * options.width
    rows = (options.batch_size or 1) * options.particles * problem.targets * options.looks
    return 4.0 * numbers * rows


def total_memory() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
