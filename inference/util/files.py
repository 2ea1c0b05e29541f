"""Atomic writing of files: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from inference.util.errors import UserError
from inference.util.reading import reason

KEPT = 40  # characters of a file's name in that of a temporary one, which must not be too long

SEAL = b"\nlowerbound sha256 "  # before the checksum at a checkpoint's end


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a new file beside ``path``; renames it to ``path`` when the block succeeds.

    Raises:
        UserError: it cannot be written (a full disk, no permission); an existing file is kept.
    """
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_left(path)
        beside = _new_file(path)
        yield beside
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:  # torch.save says RuntimeError for a full disk
        raise UserError(
            f"{path} could not be written, what it held is kept: {reason(error)}"
        ) from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


def _new_file(path: Path) -> Path:
    """An empty file that nobody else has, and no link, for this process to write."""
    prefix = f".{path.name[:KEPT]}.{os.getpid()}."
    handle, name = tempfile.mkstemp(f".tmp{path.suffix}", prefix, path.parent)
    umask = os.umask(0)
    os.umask(umask)
    os.fchmod(handle, 0o666 & ~umask)  # as any new file; mkstemp's is for the owner alone
    os.close(handle)
    return Path(name)


def _clear_left(path: Path) -> None:
    """Remove the temporary files of ``path`` that ended processes left."""
    ours = re.compile(
        rf"\.{re.escape(path.name[:KEPT])}\.(\d+)\.(\w+\.)?tmp{re.escape(path.suffix)}"
    )
    for file in path.parent.iterdir():
        if (found := ours.fullmatch(file.name)) and not _is_running(int(found[1])):
            file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def distinct(paths: Sequence[Path]) -> list[str]:
    """A name for what is written of each file: its stem, numbered where another has it, too."""
    stems = [path.stem for path in paths]
    names: list[str] = []
    for stem in stems:
        numbered = (f"{stem}-{n}" for n in itertools.count(2))
        others = {*names, *(s for s in stems if s != stem)}
        names.append(next(n for n in itertools.chain([stem], numbered) if n not in others))
    return names


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
        return json.loads(path.read_text("utf-8"))
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
