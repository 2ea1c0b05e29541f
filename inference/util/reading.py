"""Anybody's files: bounded, in any encoding that is certain; else one sentence names the file."""

from __future__ import annotations

import codecs
import gzip
import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from inference.util.errors import UserError
from inference.util.terminal import printable

LARGEST = 1 << 28  # bytes of a file that is read as a whole
DEFLATED = 1032  # deflate's largest ratio
GZIP = b"\x1f\x8b"
ENCODINGS = {  # by byte order mark
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@contextmanager
def reading(what: object, remedy: str = "give a whole file of its kind") -> Iterator[None]:
    """Turns whatever a parser raises into one sentence.

    Args:
        what: the file, as the sentence names it.
        remedy: what its reader can do.

    Raises:
        UserError: anything was raised in the block; a ``UserError`` of its own passes.
    """
    try:
        yield
    except UserError:
        raise
    except UnicodeDecodeError as error:
        near = error.object[max(0, error.start - 12) : error.start + 1]
        other = "; perhaps Latin-1" if error.encoding == "utf-8" else ""
        raise UserError(
            f"{what} is not {error.encoding.upper()} (near {near!r}{other}): convert it, as by "
            "iconv -f LATIN1 -t UTF-8"
        ) from error
    except Exception as error:
        raise UserError(f"{what} cannot be read ({reason(error)}): {remedy}") from error


def reason(error: Exception) -> str:
    """An exception's first line, in short; its kind where that says more."""
    text = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
    told = text if " " in text else f"{type(error).__name__} {text}".strip()
    return printable(told)[:200].rstrip(".")


def regular(path: Path) -> Path:
    """The path of a file.

    Raises:
        UserError: it does not exist, or is a folder, a device or a pipe, which may have no end.
    """
    with reading(path, "give a file"):
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path} is no regular file: give a file, or a copy of it")
    return path


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked where they begin as gzip's do, whatever its name says.

    Raises:
        UserError: it cannot be opened, or what reads it in the block raises.
    """
    with reading(path), regular(path).open("rb") as raw:
        yield unpacked(raw)


def unpacked(raw: io.BufferedReader) -> io.BufferedReader:
    """These bytes, gunzipped where they begin as gzip's do."""
    packed = raw.peek(2)[:2] == GZIP
    return io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw


def most_bytes(path: Path) -> int:
    """How many bytes ``opened`` can give: what a header claims beyond them is not there."""
    size = regular(path).stat().st_size
    with path.open("rb") as raw:
        return size * DEFLATED if raw.read(2) == GZIP else size


def contents(path: Path, most: int = LARGEST) -> bytes:
    """All bytes of the file, unpacked.

    Raises:
        UserError: it cannot be read, or holds more than ``most``.
    """
    with opened(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UserError(f"{path} holds more than {most >> 20} MB: give less")
    return data


def text_of(path: Path) -> str:
    """The text of the file, see ``decoded``."""
    return decoded(contents(path), path)


def decoded(data: bytes, what: object) -> str:
    """Text in UTF-8, or in what its byte order mark says; its lines end with ``\\n``.

    Raises:
        UserError: it is in another encoding, or binary.
    """
    with reading(what):
        text = data.decode(encoding(data))
    if "\0" in text:
        raise UserError(f"{what} is a binary file: give a text in UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


@contextmanager
def opened_text(path: Path, errors: str = "strict") -> Iterator[TextIO]:
    """The text of the file line by line, as ``text_of`` reads it; binary is not noticed.

    Raises:
        UserError: as ``opened``.
    """
    with opened(path) as raw, stream(raw, errors) as text:
        yield text


def stream(file: io.BufferedReader, errors: str = "strict") -> TextIO:
    """Bytes as text, in the encoding that they announce; ``errors`` as in ``bytes.decode``."""
    return io.TextIOWrapper(file, encoding=encoding(file.peek(4)[:4]), errors=errors)


def encoding(start: bytes) -> str:
    """The encoding that these first bytes announce; UTF-8 if none."""
    return next((name for mark, name in ENCODINGS.items() if start.startswith(mark)), "utf-8")
