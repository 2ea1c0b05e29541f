"""Train, validation and test columns; what is missing is drawn from the training rows and said."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.data.columns import Columns
from inference.data.values import Arrays, Range, class_numbers, encoded, tensors
from inference.util.errors import UserError
from inference.util.terminal import note

PERMUTATION_SEED = 0
SPLITS = {  # a split's name, as files and folders have it
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
TENTHS = (0.8, 0.9)  # where training and validation end, of an undivided set
Parts = Mapping[str, Arrays]


@dataclass(frozen=True)
class Splits:
    """Train, validation and test columns of one data set."""

    train: Columns
    valid: Columns
    test: Columns


def splits_of(what: str, parts: Parts, given: Range | None = None) -> Splits:
    """The splits of a set.

    Args:
        what: the set, for messages.
        parts: split → column → array (N, ...).  Without "valid" a twelfth of the training rows is
            drawn for it, without "test" a tenth, without both a tenth each.
        given: the values of black and white in a column of images, see ``values``.

    Raises:
        UserError: columns differ in length or are not numeric, or there are too few rows.
    """
    for part in parts.values():
        refuse_unequal(what, part)
    names = [name for name in parts["train"] if all(name in part for part in parts.values())]
    parts = completed(what, with_numbers(parts, names))
    columns = {n: [parts[part][n] for part in ("train", "valid", "test")] for n in names}
    say_lacking(what, columns)
    found = {name: tensors(name, some, given) for name, some in columns.items()}
    return Splits(*(Columns({name: found[name][i] for name in names}) for i in range(3)))


def with_numbers(parts: Parts, names: Sequence[str]) -> Parts:
    """These columns alone, words as numbers."""
    found: dict[str, dict[str, np.ndarray]] = {part: {} for part in parts}
    for name in names:
        some = [part[name] for part in parts.values()]
        some = encoded(name, some) if some[0].dtype.kind == "U" else some
        for part, array in zip(found.values(), some, strict=True):
            part[name] = array
    return found


def refuse_unequal(what: str, columns: Arrays) -> None:
    """Raise a ``UserError`` unless all columns have one number of rows."""
    lengths = {name: len(column) for name, column in columns.items()}
    if not lengths:
        raise UserError(f"{what} holds no column of numbers: give one")
    if len(set(lengths.values())) > 1:
        raise UserError(f"{what}: columns differ in length, {lengths}: give one row a datum")
    for name, column in columns.items():
        if not column.size:
            raise UserError(f"{what}: column {name!r} of shape {column.shape} holds no number")


def completed(what: str, parts: Parts) -> dict[str, Arrays]:
    """The same with all three splits; those that are not there are drawn."""
    missing = [part for part in ("valid", "test") if part not in parts]
    train, rest = parts["train"], {k: v for k, v in parts.items() if k != "train"}
    if not missing:
        return dict(parts)
    cuts = TENTHS if len(missing) == 2 else (11 / 12,) if missing == ["valid"] else (9 / 10,)
    kept, *held_out = drawn(what, train, cuts)
    by_class = ", by class" * (classes_of(train) is not None)
    note(f"{what} has no {' and '.join(missing)} split: drawn from its rows{by_class}, seed 0")
    return {"train": kept, **rest, **dict(zip(missing, held_out, strict=True))}


def drawn(what: str, columns: Arrays, cuts: Sequence[float]) -> list[Arrays]:
    """The rows in a fixed permutation, cut at these shares; each part has its share of each class.

    Raises:
        UserError: a part has no rows.
    """
    rows = len(next(iter(columns.values())))
    order = permutation(rows, classes_of(columns))
    bounds = [0, *(round(cut * rows) for cut in cuts), rows]
    if any(a >= b for a, b in itertools.pairwise(bounds)):
        raise UserError(f"{what} has {rows} rows, too few to hold some out: give 10 or more")
    parts = [order[a:b] for a, b in itertools.pairwise(bounds)]
    return [{k: v[part] for k, v in columns.items()} for part in parts]


def permutation(rows: int, classes: np.ndarray | None = None) -> np.ndarray:
    """A fixed permutation of the rows; with classes (N,), any stretch has its share of each."""
    order = np.random.default_rng(PERMUTATION_SEED).permutation(rows)
    if classes is None:
        return order
    return order[np.argsort(_place_in_class(classes[order]), kind="stable")]


def classes_of(columns: Arrays) -> np.ndarray | None:
    """The class of each row, if there is a column of them in which most occur again."""
    classes = class_numbers(columns)
    return None if classes is None or 2 * len(np.unique(classes)) > len(classes) else classes


def _place_in_class(classes: np.ndarray) -> np.ndarray:
    """Where each row stands among those of its class, from 0 to 1."""
    order = np.argsort(classes, kind="stable")
    _, counts = np.unique(classes, return_counts=True)
    rank = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(classes))
    place[order] = (rank + 0.5) / np.repeat(counts, counts)
    return place


def last_rows(what: str, parts: Parts) -> dict[str, Arrays]:
    """As ``completed``, but "valid" is the last twelfth of the training rows, as is usual.

    It is drawn where the last rows lack a class.
    """
    train, classes = parts["train"], classes_of(parts["train"])
    refuse_unequal(what, train)
    rows = len(next(iter(train.values())))
    cut = rows - rows // 12
    if classes is not None:
        could_hold = min(len(np.unique(classes)), rows - cut)
        if len(np.unique(classes[cut:])) < could_hold:
            return completed(what, parts)
    pairs = {k: (v[:cut], v[cut:]) for k, v in train.items()}
    kept, valid = ({k: pair[i] for k, pair in pairs.items()} for i in range(2))
    return {**parts, "train": kept, "valid": valid}


def say_lacking(what: str, columns: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Note the classes that a held-out split lacks, or that only it has."""
    parts = [{name: some[i] for name, some in columns.items()} for i in range(3)]
    if (train := classes_of(parts[0])) is None:
        return
    for part, held_out in zip(("valid", "test"), parts[1:], strict=True):
        classes = class_numbers(held_out)
        assert classes is not None  # as in train
        for some, of, lacks in ((train, classes, part), (classes, train, "train")):
            if len(lacking := np.setdiff1d(some, of)):
                named = ", ".join(map(str, lacking[:10])) + ", …" * (len(lacking) > 10)
                note(f"{what}: its {lacks} split lacks the classes {named}")
