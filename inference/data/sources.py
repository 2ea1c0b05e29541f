"""Data sets by name or path, each split into train, valid and test in one documented way.

==================  ==============================  ============================================
name                columns                         split
==================  ==============================  ============================================
``digits``          x (N, 1, 8, 8), label           1,297 / 250 / 250, a fixed permutation
``mnist``,          x (N, 1, 28, 28), label         55,000 first / 5,000 last of the training
``fashion-mnist``                                   files / the test files
``binarized-mnist`` x (N, 1, 28, 28) of 0 and 1     50,000 / 10,000 / 10,000 (Larochelle's)
a folder of idx     x, label                        eleven twelfths / the rest / the t10k files
a folder of images  x (N, C, H, W), label           folders train, valid, test, if any
.npz .npy .mat      the file's own                  arrays named ``x_train``, ``test``, …, if any
.csv .parquet       the file's own                  none of their own
``hub:NAME``        the set's own                   its own splits
==================  ==============================  ============================================

A split that is missing is drawn from the training rows, with a fixed seed and by class: 80 / 10 /
10 % where there is none, and it is said.  Images are floats in [0, 1], channels first; which value
was taken for white is said (``inference.data.values``).  Columns of words are numbered; labels and
other integers keep their type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from inference.data.columns import Columns
from inference.data.libraries import datasets_library, find_folder
from inference.data.readers.arrays import by_split, read_mat, read_numpy
from inference.data.readers.idx import idx_files, idx_parts
from inference.data.readers.image_folder import image_parts
from inference.data.readers.pictures import decode_picture, levels, picture_bytes
from inference.data.readers.tables import plain, read_csv, read_parquet, stack
from inference.data.splits import PERMUTATION_SEED, SPLITS, Parts, Splits, splits_of
from inference.data.values import Arrays, Range, encoded, tensors
from inference.util.errors import UserError
from inference.util.reading import reading, regular

READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npz": read_numpy,
    ".npy": read_numpy,
    ".mat": read_mat,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
OF_ONE_LENGTH = (".csv", ".parquet")


def load_splits(source: str, range: Range | None = None) -> Splits:
    """The data set of this name, file, folder or ``hub:`` address.

    Args:
        source: see above.
        range: the values of black and white in its images [found, and said].

    Raises:
        UserError: it does not exist, or a column or file of it cannot be used.
    """
    if range is not None and source in ("digits", "binarized-mnist"):
        raise UserError(f"--range is for data of your own, not for {source}: leave it out")
    if source == "digits":
        return digits()
    if source == "binarized-mnist":
        return binarized_mnist(find_folder("binarized_mnist"))
    return splits_of(source, parts_of(source), range)


def parts_of(source: str) -> Parts:
    """Split → column → array of any other source."""
    if source in ("mnist", "fashion-mnist"):
        return idx_parts(find_folder(source))
    if source.startswith("hub:"):
        return hub(source.removeprefix("hub:"))
    path = Path(source)
    with reading(path):
        there, is_folder = path.exists(), path.is_dir()
    if not there:
        raise UserError(
            f"no data {source!r}: give digits, mnist, fashion-mnist, binarized-mnist, hub:NAME, "
            "or the path of a file or folder"
        )
    if is_folder:
        return idx_parts(path) if idx_files(path) else image_parts(path)
    return parts_of_file(path)


def parts_of_file(path: Path) -> Parts:
    """Split → column → array, of a file by its ending.

    A file of arrays that are named by splits (``x_train``, ``train``, ``test_images``) is divided
    as it says; of any other all is "train".

    Raises:
        UserError: it cannot be read, or its ending is of another kind.
    """
    if path.suffix.lower() not in READERS:
        known = ", ".join(READERS)
        raise UserError(f"{path}: {path.suffix or 'no ending'} is not one of {known}")
    with reading(regular(path)):
        arrays = READERS[path.suffix.lower()](path)
    if path.suffix.lower() in OF_ONE_LENGTH:
        return {"train": arrays}
    return by_split(path, arrays)


def digits() -> Splits:
    """The 1,797 images of 8 × 8 that scikit-learn holds (17 grey levels)."""
    bunch = load_digits()
    x = torch.from_numpy((bunch.images[:, None] / 16).astype(np.float32))
    label = torch.from_numpy(bunch.target)
    order = torch.from_numpy(np.random.default_rng(PERMUTATION_SEED).permutation(len(x)))
    return Splits(*(Columns({"x": x[p], "label": label[p]}) for p in order.split((1297, 250, 250))))


def idx_folder(folder: Path) -> Splits:
    """LeCun's four files, gzipped or not; the last twelfth of the training files is ``valid``."""
    return splits_of(str(folder), idx_parts(folder))


def binarized_mnist(folder: Path) -> Splits:
    """Larochelle's fixed binarisation, packed eight pixels a byte, or as ``.amat`` text."""
    packed = folder / "binarized_mnist_packed.npz"
    parts = []
    for part in ("train", "valid", "test"):
        file = packed if packed.exists() else folder / f"binarized_mnist_{part}.amat"
        with reading(file, "fetch it again"):
            if file == packed:
                pixels = np.unpackbits(np.load(regular(file), allow_pickle=False)[part], axis=1)
            else:
                pixels = np.loadtxt(regular(file), dtype=np.uint8)
            x = torch.from_numpy(pixels.reshape(-1, 1, 28, 28)).float()
        parts.append(Columns({"x": x}))
    return Splits(*parts)


def hub(name: str) -> Parts:
    """A data set of the Hugging Face hub, its numeric and image columns."""
    library = datasets_library()
    with reading(f"hub:{name}", "give a set's name, and the access that it needs"):
        found = library.load_dataset(name)
        parts = {SPLITS[part]: hub_columns(rows) for part, rows in found.items() if part in SPLITS}
    if "train" not in parts:
        raise UserError(f"hub:{name} has the splits {', '.join(found)}: give a set with train")
    return parts


def hub_columns(rows: Any) -> Mapping[str, np.ndarray]:
    """The columns of one split as arrays."""
    arrays = {}
    for name in rows.column_names:
        if type(rows.features[name]).__name__ == "Image":
            encoded_pictures = undecoded(rows, name)[name]
            names = [f"{i} of column {name!r}" for i in range(len(rows))]
            pictures = map(decode_picture, names, map(hub_bytes, encoded_pictures))
            arrays["x" if name == "image" else name] = levels(list(pictures), names)
        else:
            arrays[name] = plain(stack(name, list(rows[name])))
    return arrays


def undecoded(rows: Any, name: str) -> Any:
    """A data set of ``datasets`` whose pictures stay files, for our own reader."""
    return rows.cast_column(name, datasets_library().Image(decode=False))


def hub_bytes(picture: Mapping[str, Any]) -> bytes:
    """The file of a picture of ``datasets``."""
    return picture["bytes"] or picture_bytes(Path(picture["path"]))


def covariates(path: str | Path, target: str) -> tuple[Tensor, Tensor]:
    """A csv file as (x, y): ones and the other columns standardised (N, D), and the target (N,).

    Raises:
        UserError: the file, or the target's column, does not exist or is not numeric.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}: give a csv file with a column {target!r}")
    with reading(path):
        arrays = read_csv(path)
    if target not in arrays or len(arrays) < 2:
        raise UserError(f"{path} has columns {list(arrays)}: it needs {target!r} and a covariate")
    numbers = {name: number_column(path, name, array) for name, array in arrays.items()}
    x = torch.stack([column for name, column in numbers.items() if name != target], -1)
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    return torch.cat([torch.ones(len(x), 1), x], -1), numbers[target]


def number_column(path: Path, name: str, array: np.ndarray) -> Tensor:
    """A column (N,) as floats; of words, only two have an order that does not matter."""
    if array.dtype.kind == "U":
        if len(words := np.unique(array)) != 2:
            raise UserError(
                f"{path}: column {name!r} holds {len(words)} words: write a column of 0 and 1 for "
                "each but one"
            )
        (array,) = encoded(name, [array])
    return tensors(name, [array])[0].float()
