"""Atomic writing of files: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from inference.util.errors import UserError

SEAL = b"\nlowerbound sha256 "  # before the checksum at a checkpoint's end


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renames it to ``path`` when the block succeeds.

    Raises:
        UserError: it cannot be written (a full disk, no permission); an existing file is kept.
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
    """The content of a file that ``write_json`` wrote.

    Raises:
        UserError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not readable JSON; --overwrite starts anew") from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """``torch.save``, atomically, with the file's SHA-256 at its end; ``torch.load`` reads it."""
    with replacing(path) as beside:
        torch.save(state, beside)
        with beside.open("r+b") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.write(SEAL + digest.encode())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors, on the CPU; nothing but tensors and plain types is read.

    Raises:
        UserError: the file is not a checkpoint that ``save_checkpoint`` wrote, or is damaged.
    """
    try:
        content, _, digest = path.read_bytes().rpartition(SEAL)
        if not content:
            raise UserError(
                f"{path} has no checksum, so that it is not a checkpoint of this version; "
                "--overwrite starts anew"
            )
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise UserError(f"{path} is damaged: its checksum is another; --overwrite starts anew")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} is not a readable checkpoint; --overwrite starts anew") from error
