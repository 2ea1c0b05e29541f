"""Errors of capturing as sentences that name the program's line or site."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from torch.distributions import Distribution

from inference.util.errors import UserError

OURS = str(Path(__file__).parents[2])
LIBRARIES = OURS, *(str(Path(m.__file__ or "").parent) for m in (torch, pyro))


class DependsOnValuesError(RuntimeError):
    """The program branches on a tensor's value, which the next batch changes."""


@contextmanager
def naming_the_culprit() -> Iterator[None]:
    """Turn torch's errors about reading a value into a ``UserError`` that names the culprit."""
    try:
        yield
    except Exception as error:
        causes = list(causes_of(error))
        if not any(map(_is_about_values, causes)):
            raise
        frames = [frame for cause in causes for frame in traceback.walk_tb(cause.__traceback__)]
        who, remedy = _culprit(frames)
        if any(error.args == ("__format__",) for error in causes):
            remedy = "give the site or parameter the same name in every batch"
        raise UserError(
            f"cannot capture the program: {who} needs the value of a tensor, which the next batch "
            f"will change; {remedy}, or fit without compile"
        ) from error


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: Pyro re-raises errors."""
    while error is not None:
        yield error
        error = error.__cause__


def _is_about_values(error: BaseException) -> bool:
    torchs = "value out of a tracing tensor"
    return isinstance(error, DependsOnValuesError) or torchs in str(error)


def _culprit(frames: list[tuple[FrameType, int]]) -> tuple[str, str]:
    """(the innermost line of the user's code, else the site or estimator being run; the remedy)."""
    for frame, number in reversed(frames):
        if not frame.f_code.co_filename.startswith((*LIBRARIES, "<")):
            summary = traceback.FrameSummary(frame.f_code.co_filename, number, "")
            line = f"{Path(summary.filename).name} line {number}, `{summary.line}`,"
            return line, "write it with torch.where or a mask"
    found = [frame.f_locals for frame, _ in frames]
    sites = [site for local in found if (site := _site(local))]
    if sites:
        name, fn = sites[-1]
        kinds = [type(local["self"]).__name__ for local in found if _is(local, Distribution)]
        kind = kinds[0] if kinds else type(fn).__name__
        return f"site {name!r}, a {kind},", "take another distribution there"
    elbos = [type(local["self"]).__name__ for local in found if _is(local, ELBO)]
    return f"the estimator {elbos[0]}" if elbos else "it", "take another estimator"


def _site(local: dict[str, Any]) -> tuple[str, Any] | None:
    """(name, distribution) of the site that Pyro runs or scores in a frame."""
    site = local.get("msg", local.get("site"))
    if isinstance(site, dict) and site.get("type") == "sample":
        return site["name"], site["fn"]
    return None


def _is(local: dict[str, Any], kind: type) -> bool:
    return isinstance(local.get("self"), kind)
