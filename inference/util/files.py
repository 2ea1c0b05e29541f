"""Files that are whole or absent: written beside their place and renamed into it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from inference.util.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; renamed onto it when the block succeeds.

    Raises:
        UserError: it cannot be written (a full disk, no permission); what was there stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:  # torch.save says RuntimeError for a full disk
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} could not be written, what it held is kept: {reason}") from error
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Indented JSON with a final newline."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote.

    Raises:
        UserError: the file is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not readable JSON; --overwrite starts anew") from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """``torch.save``, atomically."""
    with replacing(path) as beside:
        torch.save(state, beside)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors, on the CPU.

    Raises:
        UserError: the file is no checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is no readable checkpoint; --overwrite starts anew") from error
