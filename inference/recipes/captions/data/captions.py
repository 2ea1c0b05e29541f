"""Captioned pictures by name or path.

======================  ===========================================================================
source                  pictures, captions, split
======================  ===========================================================================
``flickr8k``            8,000 of 224 × 224, five captions each, 6,000 / 1,000 / 1,000 (the paper's)
``scenes``              digits in the cells of a canvas, see ``scenes.py`` beside this file
``scenes-clothing``     digits and clothes
a folder or .zip        pictures at any depth, and one of

                        - ``captions.json``, ``dataset*.json``: Karpathy's, with its own split
                        - ``captions.txt``, ``captions.csv``: a header, then ``image,caption``
                        - ``*.token.txt``: ``NAME#0``, a tab, the caption

                        the last two split by ``*.trainImages.txt``, ``*.devImages.txt`` and
                        ``*.testImages.txt``, else 80 / 10 / 10 % in a fixed permutation
such a .json .txt .csv  the same, for the pictures in its folder
.parquet, ``hub:NAME``  columns ``image`` and ``caption``, ``captions``, ``caption_0`` … or
                        ``text``; its own splits, else as above
======================  ===========================================================================

Pictures that belong to no split are left out.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from inference.data.letters import composed
from inference.data.libraries import datasets_library, find_folder
from inference.data.readers.pictures import ENDINGS, MOST_BYTES, picture_bytes
from inference.data.readers.tables import parquet_table
from inference.data.sources import hub_bytes, undecoded
from inference.data.splits import permutation
from inference.recipes.captions.data.pictures import Captioned, Picture, Split
from inference.recipes.captions.data.scenes import scenes
from inference.util.errors import UserError
from inference.util.reading import decoded, reading, regular

Read = Callable[[], bytes]
Files = Mapping[str, list[Read]]  # found by file name in any folder
SPLITS: dict[str, Split] = {
    "train": "train",
    "restval": "train",
    "dev": "valid",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
}
CAPTIONS = re.compile(r"(captions?|sentences?)(_\d+)?|text")


class Entry(NamedTuple):
    """A picture's name, the name of its split if it has one, and its captions."""

    name: str
    split: str | None
    captions: tuple[str, ...]


def load_captions(source: str) -> Captioned:
    """The captioned pictures of this name, folder, file or ``hub:`` address.

    Raises:
        UserError: it does not exist, or a file, line or picture of it cannot be used.
    """
    if source in ("scenes", "scenes-clothing"):
        return scenes(clothing=source == "scenes-clothing")
    if source == "flickr8k":
        return captions_from_path(find_folder("flickr8k") / "flickr8k_224.zip", source)
    if source.startswith("hub:"):
        return _from_hub(source)
    return captions_from_path(Path(source), source)


def captions_from_path(path: Path, name: str) -> Captioned:
    """The set in this folder, archive, list of captions or parquet file.

    Raises:
        UserError: as ``load``.
    """
    if not path.exists():
        raise UserError(
            f"no captioned pictures {str(path)!r}: give flickr8k, scenes, scenes-clothing, "
            "hub:NAME, or the path of a folder, .zip, .json, .txt, .csv or .parquet"
        )
    if path.is_dir():
        return _from_files(name, _folder(path), None)
    if path.suffix == ".zip":
        return _from_files(name, _archive(path), None)
    if path.suffix == ".parquet":
        return _from_parquet(name, path)
    return _from_files(name, _folder(path.parent), path.name)


def _folder(path: Path) -> Files:
    files: dict[str, list[Read]] = {}
    with reading(path):
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                files.setdefault(composed(file.name), []).append(partial(picture_bytes, file))
    return files


def _archive(path: Path) -> Files:
    files: dict[str, list[Read]] = {}
    with reading(path, "fetch it again"):
        archive = zipfile.ZipFile(regular(path))
        for member in archive.infolist():
            name = composed(PurePosixPath(member.filename).name)
            if not member.is_dir() and not name.startswith("."):
                files.setdefault(name, []).append(partial(_member, archive, member))
    return files


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        if len(data := file.read(MOST_BYTES + 1)) > MOST_BYTES:
            raise ValueError(f"it holds more than {MOST_BYTES >> 20} MB")
    return data


def _from_files(source: str, files: Files, listing: str | None) -> Captioned:
    """The pictures that ``listing``, or else the first known list among the files, names."""
    listing = listing or next((f for pattern in READERS for f in files if pattern.fullmatch(f)), "")
    reader = next((READERS[p] for p in READERS if p.fullmatch(listing)), None)
    if reader is None:
        raise UserError(
            f"{source} has no list of captions: put captions.txt (image,caption), captions.json "
            "or dataset_NAME.json (Karpathy's), or NAME.token.txt there"
        )
    where = f"{source}: {listing}"
    with reading(where, "correct it"):
        entries = list(reader(where, decoded(files[listing][0](), where)))
    if not any(entry.split for entry in entries):
        entries = _listed(files, entries) or _permuted(entries)
    kept = [entry for entry in entries if entry.split in SPLITS]
    for entry in kept:
        if (there := len(files.get(entry.name, []))) != 1:
            raise UserError(
                f"{where} names the picture {entry.name}, of which there are {there}: "
                "let there be one, or delete its captions"
            )
    return _captioned(source, where, ((entry, files[entry.name][0]) for entry in kept))


def _captioned(source: str, where: str, found: Iterable[tuple[Entry, Read]]) -> Captioned:
    pictures = []
    for entry, read in found:
        if not entry.captions:
            raise UserError(f"{where}: the picture {entry.name} has no caption: write one")
        pictures.append(Picture(entry.name, SPLITS[str(entry.split)], entry.captions, read))
    if not pictures:
        raise UserError(f"{where} holds no picture of a split: give train, valid and test some")
    return Captioned(source, tuple(pictures))


def _from_json(where: str, text: str) -> Iterator[Entry]:
    """Karpathy's layout, or ours: ``file`` and ``captions`` for ``filename`` and ``sentences``."""
    try:
        images = json.loads(text)["images"]
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON from line {error.lineno} on: {error.msg}") from error
    except (KeyError, TypeError):
        raise UserError(f"{where} has no list 'images': give Karpathy's layout") from None
    for number, image in enumerate(images):
        item = f"{where}: item {number} of 'images'"
        with reading(item, "it needs filename, split and sentences"):
            name = image["filename"] if "filename" in image else image["file"]
            said = image["captions"] if "captions" in image else map(_sentence, image["sentences"])
            yield Entry(_file_name(name), str(image["split"]), captions_of(item, said))


def _sentence(sentence: Any) -> Any:
    if isinstance(sentence, Mapping):
        return sentence["raw"] if "raw" in sentence else " ".join(sentence["tokens"])
    return sentence


def captions_of(where: str, said: Any) -> tuple[str, ...]:
    """The captions of a picture: a text or several.

    Raises:
        UserError: one is none.
    """
    found = (said,) if isinstance(said, str) else tuple(said if said is not None else (None,))
    for caption in found:
        if not isinstance(caption, str):
            raise UserError(f"{where} has the caption {caption!r}: write a text, or delete it")
    return found


def _file_name(name: str) -> str:
    """A listed file's name alone, as files are found by it."""
    return composed(PurePosixPath(name.strip().replace("\\", "/")).name)


def _from_csv(where: str, text: str) -> Iterator[Entry]:
    lines = csv.reader(io.StringIO(text))
    rows: list[tuple[str, str]] = []
    for number, row in enumerate(lines):
        if not row or (number == 0 and not row[0].strip().lower().endswith(ENDINGS)):
            continue  # an empty line, or the header
        if len(row) < 2 or not row[0] or "\n" in row[1]:
            raise UserError(f"{where}: line {lines.line_num} is not image,caption: correct it")
        rows.append((_file_name(row[0]), ",".join(row[1:])))
    yield from _grouped(rows)


def _from_token(where: str, text: str) -> Iterator[Entry]:
    rows: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        head, tab, caption = line.partition("\t")
        name, mark, _ = head.rpartition("#")
        if line.strip() and not (name and mark and tab):
            raise UserError(f"{where}: line {number} is not NAME#0, a tab, a caption: correct it")
        if line.strip():
            rows.append((_file_name(name), caption))
    yield from _grouped(rows)


def _grouped(rows: Iterable[tuple[str, str]]) -> Iterator[Entry]:
    captions: dict[str, list[str]] = {}
    for name, caption in rows:
        captions.setdefault(name, []).append(caption)
    return (Entry(name, None, tuple(said)) for name, said in captions.items())


READERS: dict[re.Pattern, Callable[[str, str], Iterator[Entry]]] = {
    re.compile(r"captions\.json|dataset.*\.json"): _from_json,
    re.compile(r"captions\.(txt|csv)"): _from_csv,
    re.compile(r"(?!.*lemma).*\.token(\.txt)?"): _from_token,
}


def _listed(files: Files, entries: list[Entry]) -> list[Entry]:
    """The split of each entry by Flickr8k's list files, if there are any."""
    split = {
        name: part
        for part in ("train", "dev", "test")
        for file in files
        if file.endswith(f"{part}Images.txt")
        for name in decoded(files[file][0](), file).split("\n")
    }
    split = {_file_name(name): part for name, part in split.items()}
    return [entry._replace(split=split[entry.name]) for entry in entries if entry.name in split]


def _permuted(entries: list[Entry]) -> list[Entry]:
    """80 / 10 / 10 %, independent of the order of the entries."""
    entries = sorted(entries)
    order = permutation(len(entries))
    part = np.searchsorted([round(0.8 * len(entries)), round(0.9 * len(entries))], order, "right")
    names = ("train", "valid", "test")
    return [e._replace(split=names[p]) for e, p in zip(entries, part, strict=True)]


class Rows(NamedTuple):
    """A table: the names of its columns, its rows but for the pictures, and a picture by row."""

    names: Sequence[str]
    rows: Callable[[], Iterable[Mapping[str, Any]]]
    read: Callable[[int], bytes]


def _from_hub(source: str) -> Captioned:
    library = datasets_library()
    with reading(source, "give a set's name, and the access that it needs"):
        found = library.load_dataset(source.removeprefix("hub:"))
        return _from_rows(source, {part: _hub_rows(dataset) for part, dataset in found.items()})


def _hub_rows(dataset: Any) -> Rows:
    return Rows(
        dataset.column_names,
        lambda: dataset.remove_columns("image"),
        lambda row: hub_bytes(undecoded(dataset, "image")[row]["image"]),
    )


def _from_parquet(source: str, path: Path) -> Captioned:
    table = parquet_table(path)
    rows = Rows(
        table.column_names,
        lambda: table.drop_columns(["image"]).to_pylist(),
        lambda row: table["image"][row].as_py()["bytes"],
    )
    with reading(path):
        return _from_rows(source, {"train": rows})


def _from_rows(source: str, found: Mapping[str, Rows]) -> Captioned:
    entries, reads = [], {}
    for part, (names, rows, read) in found.items():
        if "image" not in names:
            raise UserError(f"{source} has columns {names}: it needs an 'image'")
        texts = [column for column in names if CAPTIONS.fullmatch(column)]
        if not texts:
            raise UserError(f"{source} has columns {names}: it needs a 'caption'")
        for i, row in enumerate(rows()):
            name = f"{part}-{i}"
            said = [s for c in texts for s in captions_of(f"{source}: row {i}", row[c])]
            own = row.get("split", part if len(found) > 1 else None)
            entries.append(Entry(name, own, tuple(said)))
            reads[name] = partial(read, i)
    if not any(entry.split for entry in entries):
        entries = _permuted(entries)
    kept = [entry for entry in entries if entry.split in SPLITS]
    return _captioned(source, source, ((entry, reads[entry.name]) for entry in kept))
