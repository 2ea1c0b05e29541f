"""Errors of capturing as sentences that name the program's line."""

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
    """The program branches on a tensor's value, which the next batch changes."""


@contextmanager
def naming_the_line() -> Iterator[None]:
    """Turn torch's errors about reading a value into a ``UserError`` that names the line."""
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
    """The innermost line of the user's code, else of the library that it calls.

    Pyro re-raises errors, so causes are followed.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith((*LIBRARIES, "<"))]
    called = [f for f in frames if any(part in f.filename for part in ("pyro", "distributions"))]
    frame = (theirs or called or frames)[-1]
    return f"{Path(frame.filename).name} line {frame.lineno}, `{frame.line}`,"
