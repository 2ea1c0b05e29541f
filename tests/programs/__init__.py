"""A catalogue of Pyro programs like those of its examples and tutorials, on made-up data.

Each file is one family; the programs are plain Pyro.  ``PROGRAMS`` holds them all by name, and
``tests/programs/test_catalogue.py`` holds each against Pyro.
"""

from tests.programs import (
    bayesian_networks,
    counts,
    flows,
    gaussian_processes,
    handlers,
    hierarchical,
    linear,
    mixtures,
    sequences,
    survival,
    svi_tutorials,
    vaes,
)
from tests.programs.registry import PROGRAMS, Made, Program

__all__ = [
    "PROGRAMS",
    "Made",
    "Program",
    "bayesian_networks",
    "counts",
    "flows",
    "gaussian_processes",
    "handlers",
    "hierarchical",
    "linear",
    "mixtures",
    "sequences",
    "survival",
    "svi_tutorials",
    "vaes",
]
