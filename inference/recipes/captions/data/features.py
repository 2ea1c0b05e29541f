"""Grid features of pictures from a frozen encoder: extracted once, into a memory-mapped file.

Beside ``FILE`` (an .npy array of float16) stands ``FILE.json``: the encoder, the shape, how many
pictures are done, and a hash of their names and bytes, so that a replaced picture is noticed.  An
interrupted extraction is resumed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from inference.recipes.captions.data.encoders import Encoder, load_encoder
from inference.recipes.captions.data.pictures import Picture
from inference.util.errors import UserError
from inference.util.files import write_json
from inference.util.progress import Bar
from inference.util.reading import reading, text_of

READER = 2  # counts changes of what pictures are read as
BATCH = 32  # always cut at its multiples, so that a resumed extraction gives the same bits


@dataclass(frozen=True)
class Record:
    """What a feature file holds, and how far it is written."""

    encoder: str
    pictures: str
    shape: tuple[int, ...]
    done: int


def extract(
    pictures: Sequence[Picture],
    encoder: str,
    file: str | Path,
    device: str = "cpu",
    progress: bool = True,
) -> np.memmap:
    """The features (N, L, D) of these pictures, in float16, mapped from ``file``.

    Features that ``file`` holds already are not computed again.  The array is mapped copy-on-write:
    changes to it do not reach the file.

    Args:
        pictures: N of them; their order is that of the rows.
        encoder: by name, see ``inference.recipes.captions.data.encoders``.
        file: ends on ``.npy``.
        device: where the encoder runs.
        progress: whether to show a bar.

    Raises:
        UserError: the file is of other pictures or another encoder, it cannot be written, or a
            picture cannot be read (features extracted before are kept).
    """
    file = Path(file)
    if file.suffix != ".npy":
        raise UserError(f"features file {file}: give a name that ends on .npy")
    if not pictures:
        raise UserError(f"features file {file}: there is no picture to encode, give one")
    record = _read(file, encoder, pictures)
    if record is None or record.done < len(pictures):
        network = load_encoder(encoder).to(device)
        record = record or _begin(file, network, pictures)
        _continue(file, record, network, pictures, progress)
    with reading(file, "delete it"):
        return np.load(file, mmap_mode="c", allow_pickle=False)


class Digest:
    """A hash of the first pictures of a set, to be continued with the next."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        names = "\n".join(picture.name for picture in pictures)
        self.hash = hashlib.sha256(f"{READER}\n{names}".encode(errors="surrogateescape"))

    def add(self, pictures: Sequence[Picture]) -> str:
        """The hash with these pictures' bytes."""
        for picture in pictures:
            self.hash.update(hashlib.sha256(picture.content()).digest())
        return self.hash.hexdigest()[:16]


def features_file(source: str, names: Sequence[str], encoder: str) -> str:
    """A file name for the features of a set: no two sets of pictures have one."""
    place = str(Path(source).resolve()) if Path(source).exists() else source
    key = hashlib.sha256("\n".join([place, encoder, *names]).encode(errors="surrogateescape"))
    kind = re.sub(r"[^\w.-]+", "-", f"{Path(source).name}-{encoder}")
    return f"{kind[-80:]}-{key.hexdigest()[:8]}.npy"


def _sidecar(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _read(file: Path, encoder: str, pictures: Sequence[Picture]) -> Record | None:
    """The file's record; None where there is no file."""
    remedy = "delete it, or name another file"
    if not _sidecar(file).exists():
        if file.exists():
            raise UserError(f"{file} has no {_sidecar(file).name} beside it: {remedy}")
        return None
    record = _record(_sidecar(file), remedy)
    if record.encoder != encoder:
        raise UserError(f"{file} holds features of {record.encoder}, not of {encoder}: {remedy}")
    others = record.shape[0] != len(pictures)
    if others or record.pictures != Digest(pictures).add(pictures[: record.done]):
        raise UserError(f"{file} holds features of other pictures: {remedy}")
    if record.done and not _written(file, record):
        raise UserError(f"{file} lacks features that {_sidecar(file).name} counts: delete both")
    return record


def _record(file: Path, remedy: str) -> Record:
    with reading(f"{file} is not a record of features: it", remedy):
        record = Record(**json.loads(text_of(file)))
        rows, locations, size = map(int, record.shape)
        if not (0 <= record.done <= rows and min(rows, locations, size) > 0):
            raise ValueError(f"it counts {record.done} of shape {record.shape}")
        return replace(record, shape=(rows, locations, size))


def _written(file: Path, record: Record) -> bool:
    header = _header(record.shape)
    return file.exists() and file.stat().st_size >= len(header) + record.done * _row(record.shape)


def _header(shape: Sequence[int]) -> bytes:
    header = io.BytesIO()
    content = {"descr": "<f2", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(header, content)
    return header.getvalue()


def _row(shape: Sequence[int]) -> int:
    return 2 * int(np.prod(shape[1:]))  # bytes


def _begin(file: Path, network: Encoder, pictures: Sequence[Picture]) -> Record:
    shape = (len(pictures), *network([pictures[0].open()]).shape[1:])
    record = Record(network.name, Digest(pictures).add([]), shape, 0)
    with _keeping(file):  # before the file: one without a record is not ours
        write_json(_sidecar(file), asdict(record))
    return record


def _continue(
    file: Path, record: Record, network: Encoder, pictures: Sequence[Picture], progress: bool
) -> None:
    header, row = _header(record.shape), _row(record.shape)
    digest = Digest(pictures)
    digest.add(pictures[: record.done])
    with (
        Bar(f"features of {network.name}", len(pictures), progress) as bar,
        _keeping(file),
        file.open("r+b" if file.exists() else "w+b") as out,
    ):
        out.write(header)
        bar.start = record.done
        for start in range(record.done, len(pictures), BATCH):
            batch = pictures[start : start + BATCH]
            out.seek(len(header) + start * row)
            out.write(_encode(network, batch, record.shape[1:]).tobytes())
            out.flush()
            os.fsync(out.fileno())  # features before their count
            record = replace(record, done=start + len(batch), pictures=digest.add(batch))
            write_json(_sidecar(file), asdict(record))
            if bar.due:
                bar.update(record.done)


def _encode(network: Encoder, pictures: Sequence[Picture], shape: tuple[int, ...]) -> np.ndarray:
    features = network([picture.open() for picture in pictures]).half()
    if features.shape[1:] != shape:
        raise UserError(
            f"encoder {network.name} gives (L, D) = {tuple(features.shape[1:])} and gave {shape} "
            "when the file was begun: delete it, or name another file"
        )
    if not features.isfinite().all():
        row = int((~features.isfinite()).flatten(1).any(1).nonzero()[0])
        raise UserError(
            f"encoder {network.name} gives numbers that float16 does not hold for picture "
            f"{pictures[row].name}: scale them down"
        )
    return features.cpu().numpy()


@contextmanager
def _keeping(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{file} cannot be written, what is done is kept: {error}") from error
