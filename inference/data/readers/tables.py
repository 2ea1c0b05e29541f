"""Tables: .csv and .parquet."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inference.data.libraries import optional
from inference.data.readers.pictures import decode_picture, levels
from inference.data.values import IMAGE, Arrays
from inference.util.errors import UserError
from inference.util.reading import reading, text_of
from inference.util.terminal import note

CELLS, CELLS_A_BYTE = 1 << 25, 200  # what a table may claim
NAMED = ("index", "id", "row")  # perhaps data, perhaps names of rows
INDEX = re.compile(rf"{'|'.join(NAMED)}|Unnamed: 0|__index_level_\d+__", re.IGNORECASE)
SEPARATORS = ",;\t"


def read_csv(path: Path) -> Arrays:
    """A table with a header, separated by commas, semicolons or tabs."""
    text = text_of(path)
    if not text.strip():
        raise UserError(f"{path} is empty: give a header and a line for each row")
    head = text.lstrip("\n").partition("\n")[0]
    separator = next((mark for mark in SEPARATORS if mark in head), ",")
    with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
        table = pd.read_csv(io.StringIO(text), sep=separator, index_col=False, low_memory=False)
    if empty := [c for c in table if table[c].isna().any()]:
        row = int(table[empty[0]].isna().to_numpy().argmax()) + 2
        raise UserError(f"{path}: column {empty[0]!r} has no number in line {row}")
    arrays = {str(name): plain(table[name].to_numpy()) for name in table}
    return refuse_texts(path, without_index(path, arrays))


def plain(array: np.ndarray) -> np.ndarray:
    """Objects that are all words as an array of words."""
    if array.dtype == object and all(isinstance(value, str) for value in array):
        return array.astype(str)
    return array


def refuse_texts(path: Path, arrays: Arrays) -> Arrays:
    """Raise a ``UserError`` for a column that is neither of numbers nor of a few words."""
    for name, array in arrays.items():
        words = array.dtype.kind == "U"
        if (words and 2 * len(np.unique(array)) > len(array)) or array.dtype.kind not in "fiubU":
            what = "differing words" if words else "mixed values" if array.dtype == object else ""
            raise UserError(
                f"{path}: column {name!r} is not numeric ({what or array.dtype}, such as "
                f"{str(array[0])[:40]!r}): delete it, or write numbers"
            )
    return arrays


def without_index(path: Path, arrays: Arrays) -> Arrays:
    """Without a column that only names the rows, as DataFrame.to_csv writes it first; said."""
    kept = dict(arrays)
    for name, array in arrays.items():
        if not INDEX.fullmatch(name) or len(np.unique(array)) < len(array) or len(kept) == 1:
            continue
        if name.lower() not in NAMED or is_counting(array):
            note(f"{path}: column {name!r} names the rows and is left out")
            del kept[name]
        elif array.dtype.kind in "iuU":
            note(f"{path}: column {name!r} is read as data; delete it if it only names the rows")
    return kept


def is_counting(array: np.ndarray) -> bool:
    """Whether the values are 0, 1, 2, … or 1, 2, 3, …"""
    return array.dtype.kind in "iu" and array[0] in (0, 1) and bool((np.diff(array) == 1).all())


def read_parquet(path: Path) -> Arrays:
    """A parquet file; a column of encoded pictures becomes one of images."""
    table = parquet_table(path)
    arrays = {}
    for name in table.column_names:
        is_image = name == "image" and is_picture(table[name])
        arrays[IMAGE if is_image else name] = column(name, table[name])
    return refuse_texts(path, without_index(path, arrays))


def parquet_table(path: Path) -> Any:
    """The table of a parquet file.

    Raises:
        UserError: it cannot be read, or the library pyarrow is not installed.
    """
    library = optional("pyarrow.parquet", "data", "parquet files need")
    with reading(path):
        file = library.ParquetFile(path)
        cells = file.metadata.num_rows * file.metadata.num_columns
        if not 0 <= cells <= max(CELLS, CELLS_A_BYTE * path.stat().st_size):
            raise ValueError(f"it counts {file.metadata.num_rows} rows")
        return file.read()


def is_picture(values: Any) -> bool:
    """Whether a column holds encoded pictures, as ``datasets`` stores them."""
    names = [field.name for field in getattr(values.type, "fields", [])]
    return "bytes" in names


def column(name: str, values: Any) -> np.ndarray:
    """A column of numbers, words, lists of one size, or pictures of one size."""
    if values.null_count:
        row = values.is_null().to_pylist().index(True)
        raise UserError(f"column {name!r} has no value in row {row}: fill or drop these rows")
    if is_picture(values):
        rows = values.to_pylist()
        names = [f"{i} of column {name!r}" for i in range(len(rows))]
        return levels(
            [decode_picture(n, row["bytes"] or b"") for n, row in zip(names, rows, strict=True)],
            names,
        )
    array = values.to_numpy()
    return (
        plain(array) if array.dtype == object and isinstance(array[0], str) else stack(name, array)
    )


def stack(name: str, rows: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Rows of one shape as an array (N, ...); nested lists are arrays."""
    if isinstance(rows, np.ndarray) and rows.dtype != object:
        return rows
    if not len(rows) or not isinstance(rows[0], list | tuple | np.ndarray):
        return np.asarray(rows)
    arrays = [stack(name, row) for row in rows]
    if len(shapes := {a.shape for a in arrays}) > 1:
        raise UserError(f"column {name!r} holds rows of shapes {sorted(shapes)[:4]}: give one size")
    return np.stack(arrays)
