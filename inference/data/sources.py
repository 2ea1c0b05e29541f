"""Data sets by name or path, each split into train, valid and test in one documented way.

==================  ==============================  ============================================
name                columns                         split
==================  ==============================  ============================================
``digits``          x (N, 1, 8, 8), label           1,297 / 250 / 250, a fixed permutation
``mnist``,          x (N, 1, 28, 28), label         55,000 first / 5,000 last of the training
``fashion-mnist``                                   files / the test files
``binarized-mnist`` x (N, 1, 28, 28) of 0 and 1     50,000 / 10,000 / 10,000 (Larochelle's)
a folder of idx     x, label                        eleven twelfths / the rest / the t10k files
a folder of images  x (N, C, H, W), label           80 / 10 / 10 %, a fixed permutation
.npz .npy .csv      the file's own                  arrays named ``x_train`` … ``x_test`` if any,
.parquet                                            else 80 / 10 / 10 %, a fixed permutation
``hub:NAME``        the set's own                   its own splits, else as above
==================  ==============================  ============================================

Images are floats in [0, 1], channels first; labels and other integers keep their type.
"""

from __future__ import annotations

import gzip
import importlib
import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from inference.data.columns import Columns
from inference.util.errors import UserError

Arrays = Mapping[str, np.ndarray]
PERMUTATION_SEED = 0


@dataclass(frozen=True)
class Splits:
    """Train, validation and test columns of one data set."""

    train: Columns
    valid: Columns
    test: Columns


def load_splits(source: str) -> Splits:
    """The data set of this name, file, folder or ``hub:`` address.

    Raises:
        UserError: it does not exist, or a column or file of it cannot be used.
    """
    if source == "digits":
        return digits()
    if source in ("mnist", "fashion-mnist"):
        return idx_folder(find_folder(source))
    if source == "binarized-mnist":
        return binarized_mnist(find_folder("binarized_mnist"))
    if source.startswith("hub:"):
        return hub(source.removeprefix("hub:"))
    return splits_from_path(Path(source))


def splits_from_path(path: Path) -> Splits:
    """A file by its ending, or a folder of idx files or of images."""
    if not path.exists():
        raise UserError(
            f"no data {str(path)!r}: give digits, mnist, fashion-mnist, binarized-mnist, hub:NAME, "
            "or the path of a file or folder"
        )
    if path.is_dir():
        return idx_folder(path) if _idx_files(path) else image_folder(path)
    readers: dict[str, Callable[[Path], Arrays]] = {
        ".npz": _read_npz,
        ".npy": lambda p: {"x": np.load(p, allow_pickle=False)},
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    if path.suffix not in readers:
        raise UserError(f"{path}: {path.suffix or 'no ending'} is not one of {', '.join(readers)}")
    try:
        return split_columns(readers[path.suffix](path))
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def split_columns(arrays: Arrays) -> Splits:
    """By names such as ``x_train`` and ``x_test``, else 80 / 10 / 10 % in a fixed permutation."""
    named: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        column, _, part = name.rpartition("_")
        if part in ("train", "valid", "test") and column:
            named.setdefault(part, {})[column] = array
    if "train" not in named:
        return _permuted(arrays, (0.8, 0.9))
    train = named["train"]
    rows = len(next(iter(train.values())))
    test = named.get("test") or {k: v[rows - rows // 10 :] for k, v in train.items()}
    kept = rows if "test" in named else rows - rows // 10
    cut = kept if "valid" in named else kept - kept // 12
    valid = named.get("valid") or {k: v[cut:kept] for k, v in train.items()}
    return Splits(
        as_tensors({k: v[:cut] for k, v in train.items()}), as_tensors(valid), as_tensors(test)
    )


def as_tensors(arrays: Arrays) -> Columns:
    """Arrays as tensors: images to floats in [0, 1] with channels first, the rest as they are."""
    return Columns({name: _tensor(name, array) for name, array in arrays.items()})


def digits() -> Splits:
    """The 1,797 images of 8 × 8 that scikit-learn holds (17 grey levels)."""
    bunch = load_digits()
    x = (bunch.images[:, None] / 16).astype(np.float32)
    return _permuted({"x": x, "label": bunch.target}, (1297 / 1797, 1547 / 1797))


def idx_folder(folder: Path) -> Splits:
    """LeCun's four files, gzipped or not; the last twelfth of the training files is ``valid``."""
    files = _idx_files(folder)
    parts: dict[str, dict[str, np.ndarray]] = {"train": {}, "t10k": {}}
    for part in parts:
        for kind, column in (("images", "x"), ("labels", "label")):
            found = [f for f in files if f.name.startswith(f"{part}-{kind}")]
            if not found:
                raise UserError(f"{folder} has no file {part}-{kind}-idx…-ubyte")
            parts[part][column] = read_idx(found[0])
    train = parts["train"]
    cut = len(train["x"]) - len(train["x"]) // 12
    return Splits(
        as_tensors({k: v[:cut] for k, v in train.items()}),
        as_tensors({k: v[cut:] for k, v in train.items()}),
        as_tensors(parts["t10k"]),
    )


def read_idx(path: Path) -> np.ndarray:
    """One idx file of bytes (LeCun's format: two zeros, type, number of dims, dims, data)."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise UserError(f"{path} is not an idx file of unsigned bytes")
    dims = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if len(data) != np.prod(dims):
        raise UserError(f"{path} is cut short: {len(data)} bytes of {np.prod(dims)}")
    return data.reshape(dims)


def binarized_mnist(folder: Path) -> Splits:
    """Larochelle's fixed binarisation, packed eight pixels a byte, or as ``.amat`` text."""
    packed = folder / "binarized_mnist_packed.npz"
    parts = []
    for part in ("train", "valid", "test"):
        if packed.exists():
            pixels = np.unpackbits(np.load(packed)[part], axis=1)
        else:
            pixels = np.loadtxt(folder / f"binarized_mnist_{part}.amat", dtype=np.uint8)
        x = torch.from_numpy(pixels.reshape(-1, 1, 28, 28)).float()
        parts.append(Columns({"x": x}))
    return Splits(*parts)


def image_folder(folder: Path) -> Splits:
    """Images of one size in a folder (subfolders are labels), read by ``datasets``."""
    return _from_datasets(datasets_library().load_dataset("imagefolder", data_dir=str(folder)))


def hub(name: str) -> Splits:
    """A data set of the Hugging Face hub, its numeric and image columns."""
    return _from_datasets(datasets_library().load_dataset(name))


def _from_datasets(found: Mapping[str, Any]) -> Splits:
    renamed = {"train": "train", "validation": "valid", "test": "test"}
    arrays = {
        f"{'x' if column == 'image' else column}_{renamed[part]}": _stack(column, dataset[column])
        for part, dataset in found.items()
        if part in renamed
        for column in dataset.column_names
    }
    if set(found) == {"train"}:
        return _permuted({n.removesuffix("_train"): a for n, a in arrays.items()}, (0.8, 0.9))
    return split_columns(arrays)


def _stack(column: str, rows: Any) -> np.ndarray:
    arrays = [np.asarray(row) for row in rows]
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise UserError(f"column {column!r} holds rows of shapes {sorted(shapes)}: give one size")
    return np.stack(arrays)


def _permuted(arrays: Arrays, cuts: tuple[float, float]) -> Splits:
    rows = len(next(iter(arrays.values())))
    order = np.random.default_rng(PERMUTATION_SEED).permutation(rows)
    bounds = [0, round(cuts[0] * rows), round(cuts[1] * rows), rows]
    parts = [order[a:b] for a, b in itertools.pairwise(bounds)]
    return Splits(*(as_tensors({k: v[p] for k, v in arrays.items()}) for p in parts))


def _tensor(name: str, array: np.ndarray) -> Tensor:
    array = np.require(array, requirements=["C", "W"])
    if array.dtype.kind not in "fiub":
        raise UserError(f"column {name!r} is not numeric (its type is {array.dtype})")
    tensor = torch.from_numpy(array)
    if array.dtype == np.uint8 and array.ndim >= 3:
        tensor = tensor.float() / 255
        if tensor.dim() == 3:
            tensor = tensor.unsqueeze(1)
        elif tensor.shape[-1] in (1, 3, 4) and tensor.shape[1] not in (1, 3, 4):
            tensor = tensor.movedim(-1, 1).contiguous()
    return tensor.float() if tensor.is_floating_point() else tensor


def _read_npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files if file[name].dtype.kind in "fiub"}


def _read_csv(path: Path) -> Arrays:
    table = pd.read_csv(path)
    if empty := [c for c in table if table[c].isna().any()]:
        row = int(table[empty[0]].isna().to_numpy().argmax()) + 2
        raise UserError(f"{path}: column {empty[0]!r} has no number in line {row}")
    return {str(name): table[name].to_numpy() for name in table}


def _read_parquet(path: Path) -> Arrays:
    dataset = datasets_library().load_dataset("parquet", data_files=str(path), split="train")
    return {name: _stack(name, dataset[name]) for name in dataset.column_names}


def datasets_library() -> Any:
    """The library ``datasets``, its progress bars off.

    Raises:
        UserError: it is not installed.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise UserError("this source needs the extra: pip install 'lowerbound[data]'") from None
    datasets.disable_progress_bars()
    return datasets


def gensim_module(name: str) -> Any:
    """A module of the library ``gensim``, such as ``gensim.utils``.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError("word vectors need the extra: pip install 'lowerbound[words]'") from None


def gensim_file(name: str) -> Path:
    """The path of a file of gensim's test data.

    Raises:
        UserError: gensim is not installed, or lacks this file.
    """
    path = Path(gensim_module("gensim").__file__).parent / "test" / "test_data" / name
    if not path.is_file():
        raise UserError(f"gensim lacks {name}: pip install --force-reinstall gensim")
    return path


def find_folder(name: str) -> Path:
    """The folder of this name under LOWERBOUND_DATA, ``data`` or ``../shared/data``.

    Raises:
        UserError: there is no such folder.
    """
    roots = [os.environ.get("LOWERBOUND_DATA"), "data", "../shared/data"]
    candidates = [Path(root) / name for root in roots if root]
    for folder in candidates:
        if folder.is_dir():
            return folder
    looked = ", ".join(map(str, candidates))
    raise UserError(
        f"no folder {name!r} (looked for {looked}): put its files there, or set LOWERBOUND_DATA"
    )


def _idx_files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if "-idx" in f.name)


def covariates(path: str | Path, target: str) -> tuple[Tensor, Tensor]:
    """A csv file as (x, y): ones and the other columns standardised (N, D), and the target (N,).

    Raises:
        UserError: the file, or the target's column, does not exist or is not numeric.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}: give a csv file with a column {target!r}")
    table = as_tensors(_read_csv(path)).tensors
    if target not in table or len(table) < 2:
        raise UserError(f"{path} has columns {list(table)}: it needs {target!r} and a covariate")
    x = torch.stack([column.float() for name, column in table.items() if name != target], -1)
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    return torch.cat([torch.ones(len(x), 1), x], -1), table[target].float()
