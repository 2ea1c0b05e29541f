"""What cannot be captured, in a sentence that names the line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyro
import torch

import inference
from inference.util.errors import UserError

LIBRARIES = tuple(str(Path(m.__file__ or "").parent) for m in (torch, pyro, inference))
REMEDY = "write it with torch.where or a mask, or fit without compile"


class DependsOnValuesError(RuntimeError):
    """The next batch's values would make it another graph."""


@contextmanager
def naming_the_line() -> Iterator[None]:
    """Turn torch's complaint that a value is needed into a sentence about the program's line."""
    try:
        yield
    except Exception as error:
        if not _is_about_values(error):
            raise
        raise UserError(
            f"cannot capture the program: {_line(error)} needs the value of a tensor, which the "
            f"next batch will change; {REMEDY}"
        ) from error


def _is_about_values(error: BaseException) -> bool:
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    torchs = "value out of a tracing tensor"
    return any(isinstance(e, DependsOnValuesError) or torchs in str(e) for e in causes)


def _line(error: BaseException) -> str:
    """The innermost line of the user's, or else of the library that the user's program calls.

    Pyro raises anew, so causes are looked at.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith((*LIBRARIES, "<"))]
    called = [f for f in frames if any(part in f.filename for part in ("pyro", "distributions"))]
    frame = (theirs or called or frames)[-1]
    return f"{Path(frame.filename).name} line {frame.lineno}, `{frame.line}`,"
