"""Files of named arrays: .npz, .npy, .mat."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat, whosmat

from inference.data.splits import SPLITS, Parts
from inference.data.values import IMAGE, Arrays
from inference.util.terminal import note

EXPANDED = 1 << 28  # bytes; more of one array, at this ratio, is taken for a bomb
RATIO = 200
NUMERIC = (
    "double",
    "single",
    "logical",
    *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
)
COLUMNS = {"": IMAGE, "image": IMAGE, "images": IMAGE, "data": IMAGE, "labels": "label"}


def by_split(path: Path, arrays: Arrays) -> Parts:
    """Arrays by the splits in their names, or all as "train"; what does not fit is left out."""
    named: dict[str, dict[str, np.ndarray]] = {}
    rest = {}
    for name, array in arrays.items():
        if array.ndim and (found := split_and_column(name)):
            named.setdefault(found[0], {})[found[1]] = array
        else:
            rest[name] = array
    if "train" not in named or (len(named) == 1 and usable(path, rest, quiet=True)):
        return {"train": usable(path, arrays)}
    leave_out(path, {name: "belongs to no split" for name in rest})
    return {part: usable(path, columns) for part, columns in named.items()}


def split_and_column(name: str) -> tuple[str, str] | None:
    """("train", "x") of x_train, train_x, X_train, train or train_images; None of other names."""
    words = name.split("_")
    for part, others in ((words[0], words[1:]), (words[-1], words[:-1])):
        if part.lower() in SPLITS:
            column = "_".join(others)
            column = column.lower() if len(column) == 1 else column
            return SPLITS[part.lower()], COLUMNS.get(column, column)
    return None


def usable(path: Path, arrays: Arrays, quiet: bool = False) -> dict[str, np.ndarray]:
    """The arrays with a row for each datum; those of other kinds are left out, and it is said."""
    numeric = {k: a for k, a in arrays.items() if a.dtype.kind in "fiub" and a.ndim}
    rows = Counter(len(a) for a in numeric.values()).most_common(1)
    kept, out = {}, {}
    for name, array in arrays.items():
        if name in numeric or (array.dtype.kind == "U" and array.shape == (rows and rows[0][0],)):
            kept[name] = array
        else:
            out[name] = f"is {kind_of(array)}"
    if not quiet:
        leave_out(path, out)
    return kept


def leave_out(path: Path, why: Mapping[str, str]) -> None:
    """Note the arrays that are not read."""
    for name, reason in why.items():
        note(f"{path}: {name!r} {reason} and is left out")


def kind_of(array: np.ndarray) -> str:
    """What an array is, in words."""
    if array.dtype.kind in "fiub":
        return "a single number"
    kinds = {"O": "of Python objects", "U": "of words, not one a row", "c": "of complex numbers"}
    return kinds.get(array.dtype.kind, f"of type {array.dtype}")


def read_numpy(path: Path) -> Arrays:
    """An .npz or .npy, by its content."""
    with path.open("rb") as raw:
        if not raw.read(6).startswith((b"PK", b"\x93NUMPY")):
            raise ValueError("it does not begin as numpy's files do")
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(found, np.ndarray):
        return {IMAGE: found}
    with found as file:
        refuse_bomb(file.zip)
        return {name: member(file, name) for name in file.files}


def member(file: Any, name: str) -> np.ndarray:
    """An array of an .npz; one of objects, which would be unpickled, is an empty one of objects."""
    with file.zip.open(name if name in file.zip.namelist() else f"{name}.npy") as raw:
        version = np.lib.format.read_magic(raw)
        header = {(1, 0): np.lib.format.read_array_header_1_0}
        _, _, dtype = header.get(version, np.lib.format.read_array_header_2_0)(raw)
    return np.empty(0, object) if dtype.hasobject else file[name]


def refuse_bomb(archive: zipfile.ZipFile) -> None:
    """Raise for an archive that would not fit where its size suggests it does."""
    for info in archive.infolist():
        if info.file_size > max(EXPANDED, RATIO * info.compress_size):
            raise ValueError(
                f"{info.filename} would be {info.file_size >> 20} MB, more than {RATIO} times "
                "what it is packed; store it unpacked if this is meant"
            )


def read_mat(path: Path) -> Arrays:
    """A MATLAB file of version 5 to 7, its arrays of numbers; (N, 1) and (1, N) are (N,)."""
    kinds = {name: kind for name, _, kind in whosmat(path)}
    leave_out(path, {name: f"is {kind}" for name, kind in kinds.items() if kind not in NUMERIC})
    wanted = [name for name, kind in kinds.items() if kind in NUMERIC]  # others may crash SciPy
    found = loadmat(path, variable_names=wanted) if wanted else {}
    arrays = {name: found[name] for name in wanted}
    return {k: v.reshape(-1) if v.ndim == 2 and 1 in v.shape else v for k, v in arrays.items()}
