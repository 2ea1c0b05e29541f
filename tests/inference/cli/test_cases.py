"""Inputs of public bug reports and damaged files, through the command: right, or one sentence."""

import os
from pathlib import Path

import pytest

from tests.support.files.isolated import isolated

CASES = Path(os.environ.get("LOWERBOUND_CASES", "../shared/cases"))
FUZZ = sorted((CASES / "fuzz").iterdir()) if (CASES / "fuzz").is_dir() else []
QUICK = ("--epochs", "1", "--out")
pytestmark = pytest.mark.slow


def command(file, out):
    """The command that reads a file of this kind."""
    kind = file.name.split("-")[0]
    vae = ("fit", "vae", "--data", file, "--hidden", "4", *QUICK, out)
    captioner = ("fit", "captioner", "--data", file, "--encoder", "pixels", "--hidden", "4")
    return {
        "captions.parquet": (*captioner, "--features", out / "f", *QUICK, out),
        "captions.zip": (*captioner, "--features", out / "f", *QUICK, out),
        "corpus": ("fit", "skipgram", "--data", file, *QUICK, out),
        "corpus.bz2": ("fit", "skipgram", "--data", file, *QUICK, out),
        "recipe_file": ("fit", file, *QUICK, out),
        "word2vec": ("neighbours", file, "a"),
    }.get(kind, vae)


@pytest.mark.parametrize("file", FUZZ, ids=lambda file: file.name)
def test_damaged_files(file, tmp_path):
    ended = isolated(command(file, tmp_path / "out"))
    own_error = file.name.startswith("recipe_file")
    assert not ended.faults(*((1,) if own_error else (2,))), ended
    assert not own_error or "mine" in ended.err
