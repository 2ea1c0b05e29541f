"""A training that is killed: python -m tests.support.killed_program NAME DIRECTORY."""

import math
import sys
from pathlib import Path

import torch

from tests.programs import PROGRAMS
from tests.support.against_pyro.by_hand import Trained
from tests.support.against_pyro.trained import lived

STEPS = 100


def train(name: str, directory: Path, **how) -> Trained:
    """``STEPS`` steps of a program of the catalogue, with a checkpoint after each epoch."""
    options = {"steps": STEPS, "checkpoint_every": 0.0, "resume": True} | how
    return lived(PROGRAMS[name], directory, math.inf, **options)


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)  # as every test does
    train(sys.argv[1], Path(sys.argv[2]))
