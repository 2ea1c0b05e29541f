"""A folder of pictures of one size; folders in it are splits and classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inference.data.readers.pictures import ENDINGS, decode_picture, levels, picture_bytes
from inference.data.splits import SPLITS, Parts
from inference.util.errors import UserError
from inference.util.progress import Bar


def image_parts(folder: Path) -> Parts:
    """Split → x (N, C, H, W) in [0, 1] and, where pictures lie in folders of classes, label.

    Folders train, valid (val, …) and test are splits, if there is one for training; classes are
    numbered by alphabet over all splits.

    Raises:
        UserError: there is no picture, one cannot be read, or they differ in size.
    """
    places = {
        SPLITS[place.name.lower()]: place
        for place in sorted(folder.iterdir())
        if place.is_dir() and place.name.lower() in SPLITS
    }
    places = places if "train" in places else {"train": folder}
    files = {part: pictures_in(place) for part, place in places.items()}
    every = [file for some in files.values() for file in some]
    images = read_all(every)
    classes = [class_of(file, place) for part, place in places.items() for file in files[part]]
    known = sorted({name for name in classes if name is not None})
    if known and None in classes:
        loose = every[classes.index(None)]
        raise UserError(f"{loose} lies beside folders of classes: move it into one of them")
    parts, start = {}, 0
    for part, some in files.items():
        rows = slice(start, start := start + len(some))
        parts[part] = {"x": images[rows]}
        if known:
            parts[part]["label"] = np.array([known.index(str(c)) for c in classes[rows]])
    return parts


def pictures_in(folder: Path) -> list[Path]:
    """The picture files in a folder, at any depth, in order."""
    found = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in ENDINGS and not file.name.startswith(".")
    )
    if not found:
        raise UserError(f"{folder} holds no pictures: put some there ({', '.join(ENDINGS[:3])}, …)")
    return found


def class_of(file: Path, place: Path) -> str | None:
    """The folder of a picture's class."""
    *folders, _ = file.relative_to(place).parts
    return folders[0] if folders else None


def read_all(files: Sequence[Path]) -> np.ndarray:
    """(N, C, H, W) of these files."""
    pictures = []
    with Bar(f"pictures of {files[0].parent}", len(files)) as bar:
        for done, file in enumerate(files, 1):
            pictures.append(decode_picture(str(file), picture_bytes(file)))
            if bar.due:
                bar.update(done)
    return levels(pictures, [str(file) for file in files])
