"""Data as named columns: resident tensors drawn by index, or a data set streamed in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from inference.data.values import native
from inference.util.errors import UserError
from inference.util.reading import reason

Batch = dict[str, Tensor]
Transform = Callable[[Batch], Batch]
POOL = 64  # batches among which rows are sorted by length


@dataclass(frozen=True)
class Columns:
    """Tensors of equal length, one row a datum, resident on one device.

    Args:
        tensors: column name → tensor (N, ...).
        transform: applied to every batch as it is drawn, on the device (dynamic binarisation).
        tables: column name → tensor (M, ...) of values that several data share (one picture with
            several captions); the column holds row numbers (N,) of its table, a batch holds the
            rows.
        lengths: column name → (N,) how many entries of each row (N, T, ...) are not padding.  A
            batch takes rows of similar length, and is cut to its longest.

    Raises:
        UserError: no column, columns of different length, or a row number outside of its table.
    """

    tensors: Mapping[str, Tensor]
    transform: Transform | None = None
    tables: Mapping[str, Tensor] = field(default_factory=dict)
    lengths: Mapping[str, Tensor] = field(default_factory=dict)
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.tensors.items()}
        if not lengths or 0 in lengths.values():
            raise UserError(f"the data have no rows: {lengths or 'no column was given'}")
        if len(set(lengths.values())) > 1:
            raise UserError(f"columns differ in length: {lengths}; give one row a datum in each")
        for name, table in self.tables.items():
            if (last := int(self.tensors[name].max())) >= len(table):
                raise UserError(
                    f"column {name!r} asks for row {last} of a table of {len(table)} rows: "
                    "give the table that it was numbered for"
                )

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    @property
    def names(self) -> list[str]:
        """The columns of a batch."""
        return list(self.tensors)

    @property
    def device(self) -> torch.device:
        """The device of the columns."""
        return next(iter(self.tensors.values())).device

    def order(self, batch_size: int | None, seed: int, epoch: int) -> list[Tensor | None]:
        """The rows of each batch of one epoch, see ``epoch_order``."""
        lengths = next(iter(self.lengths.values()), None)
        return epoch_order(len(self), batch_size, seed, epoch, lengths)

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same data on ``device``, floating columns and drawn rows of tables as ``dtype``.

        Lengths stay on the host: a batch's width must be known without waiting for a GPU.
        """
        moved = {k: _move(v, device, dtype) for k, v in self.tensors.items()}
        tables = {k: v.to(device) for k, v in self.tables.items()}
        return replace(self, tensors=moved, tables=tables, dtype=dtype)

    def select(self, names: Sequence[str]) -> Self:
        """The columns of these names, in this order."""
        tensors, tables, lengths = (
            {name: columns[name] for name in names if name in columns}
            for columns in (self.tensors, self.tables, self.lengths)
        )
        return replace(self, tensors=tensors, tables=tables, lengths=lengths)

    def refuse_nonfinite(self) -> None:
        """Raise a ``UserError`` that names the column and row of the first NaN or infinity."""
        for name, column in {**self.tensors, **self.tables}.items():
            bad = ~column.isfinite()
            if bad.any():
                row = int(bad.reshape(len(bad), -1).any(1).nonzero()[0])
                raise UserError(
                    f"column {name!r} holds {int(bad.sum())} NaN or infinite numbers, the first in "
                    f"row {row}: fill or drop these rows"
                )

    def followed_by(self, other: Columns) -> Columns:
        """The rows of this and of the other (of the same tables), under this one's transform."""
        joined = {k: torch.cat([v, other.tensors[k]]) for k, v in self.tensors.items()}
        lengths = {k: torch.cat([v, other.lengths[k]]) for k, v in self.lengths.items()}
        return replace(self, tensors=joined, lengths=lengths)

    def rows(self, index: Tensor | slice | None = None) -> Batch:
        """The batch of these rows (all of them for None), transformed."""
        batch = dict(self.tensors)
        if index is not None:
            on_device = index.to(self.device) if isinstance(index, Tensor) else index
            batch = {name: column[on_device] for name, column in batch.items()}
        for name, lengths in self.lengths.items():
            chosen = lengths if index is None else lengths[index]
            batch[name] = batch[name][:, : int(chosen.max())]
        for name, table in self.tables.items():
            batch[name] = _move(
                table[batch[name]], self.device, self.dtype or torch.get_default_dtype()
            )
        return self.transform(batch) if self.transform else batch

    def batches(self, indices: Sequence[Tensor | slice | None]) -> Iterator[Batch]:
        """One batch for each index, gathered on the device."""
        return map(self.rows, indices)


@dataclass(frozen=True)
class Streamed:
    """A map-style data set whose items are dicts of tensors or numbers, read batch by batch.

    For data that do not fit the device.  Items must not be random (a resumed run could not
    repeat them): put noise into ``transform``, which runs in the training process.
    """

    dataset: Dataset
    transform: Transform | None = None
    device: torch.device | None = None
    dtype: torch.dtype = torch.float32
    chosen: tuple[str, ...] | None = None

    def __len__(self) -> int:
        assert isinstance(self.dataset, Sized)
        return len(self.dataset)

    def order(self, batch_size: int | None, seed: int, epoch: int) -> list[Tensor | None]:
        """The rows of each batch of one epoch, see ``epoch_order``."""
        return epoch_order(len(self), batch_size, seed, epoch)

    @property
    def names(self) -> list[str]:
        """The columns of a batch."""
        return list(self.dataset[0])

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same data, delivered to ``device``."""
        return replace(self, device=device, dtype=dtype)

    def select(self, names: Sequence[str]) -> Self:
        """The columns of these names."""
        return replace(self, chosen=tuple(names))

    def rows(self, index: Tensor | slice | None = None) -> Batch:
        """The batch of these rows (all of them for None)."""
        return next(self.batches([index]))

    def batches(self, indices: Sequence[Tensor | slice | None]) -> Iterator[Batch]:
        """One batch for each index, through a ``DataLoader``."""
        everything = torch.arange(len(self), device="cpu")
        order = [(everything if i is None else everything[i]).tolist() for i in indices]
        own = torch.Generator()  # else the loader draws from the program's generator
        rows = _Numbered(self.dataset)
        for batch in DataLoader(rows, batch_sampler=order, generator=own, collate_fn=_collated):
            moved = {k: _move(batch[k], self.device, self.dtype) for k in self.chosen or batch}
            yield self.transform(moved) if self.transform else moved


class _Numbered(Dataset):
    """Items with their numbers, for messages."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, row: int) -> tuple[int, Mapping[str, Any]]:
        return row, self.dataset[row]


def _collated(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> Batch:
    """A batch of numbered items."""
    names = rows[0][1]
    return {name: _stacked(name, [(row, item.get(name)) for row, item in rows]) for name in names}


def _stacked(name: str, values: Sequence[tuple[int, Any]]) -> Tensor:
    shape = np.shape(values[0][1])
    for row, value in values:
        numeric = isinstance(value, Tensor | np.ndarray | np.number | float | int)
        if not numeric or np.shape(value) != shape:
            what = f"of shape {np.shape(value)}, not {shape}" if numeric else f"{str(value)[:40]!r}"
            raise UserError(
                f"column {name!r} of the data set is {what} in row {row}: let items hold tensors "
                "or numbers, of one shape, as with_format('torch') gives them"
            )
    return default_collate([value for _, value in values])


Data = Columns | Streamed | Mapping[str, Tensor] | Dataset


def as_columns(data: Any) -> Columns | Streamed:
    """Columns from a dict or data frame of columns by name, or from a torch data set.

    Raises:
        UserError: the columns have no names, or data of this type cannot be used.
    """
    if isinstance(data, Columns | Streamed):
        return data
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):  # a pandas data frame
        data = {str(name): data[name].to_numpy(copy=True) for name in data.columns}
    if isinstance(data, Mapping):
        if splits := [name for name, part in data.items() if hasattr(part, "column_names")]:
            named = ", ".join(map(str, splits))
            raise UserError(f"the data are splits ({named}): give one, data[{splits[0]!r}]")
        return Columns({name: _tensor(name, column) for name, column in data.items()})
    if hasattr(data, "column_names") and hasattr(data, "with_format"):  # of Hugging Face
        data = data.with_format("torch")
    if isinstance(data, DataLoader):
        raise UserError("a DataLoader draws batches of its own: give its data set, loader.dataset")
    if isinstance(data, TensorDataset):
        names = ", ".join(f"'c{i}': data.tensors[{i}]" for i in range(len(data.tensors)))
        raise UserError(
            "a TensorDataset's tensors have no names: give a dict by the names of the model's "
            f"arguments, {{{names}}}"
        )
    if isinstance(data, Tensor | np.ndarray | str) or not hasattr(data, "__getitem__"):
        raise UserError(
            f"data of type {type(data).__name__} cannot be used: give a dict of tensors by column "
            "name, or a data set whose items are such dicts"
        )
    if not len(data):
        raise UserError("the data set has no items")
    if not isinstance(first := data[0], Mapping):
        raise UserError(
            f"an item of the data set is a {type(first).__name__}: it must be a dict of tensors by "
            "column name"
        )
    return Streamed(data)


def epoch_order(
    size: int, batch_size: int | None, seed: int, epoch: int, lengths: Tensor | None = None
) -> list[Tensor | None]:
    """The rows of each batch of one epoch: a permutation that depends on (seed, epoch) alone.

    With ``lengths`` (size,), rows are sorted by length within pools of the permutation, so that a
    batch holds rows of similar length, and batches differ from epoch to epoch.
    """
    if batch_size is None or batch_size >= size:
        return [None]
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    generator = torch.Generator().manual_seed(mixed)
    permutation = torch.randperm(size, generator=generator, device="cpu")
    if lengths is None:
        return list(permutation.split(batch_size))
    pools = permutation.split(POOL * batch_size)
    alike = [pool[lengths[pool].argsort(stable=True)] for pool in pools]
    batches = [batch for pool in alike for batch in pool.split(batch_size)]
    mixing = torch.randperm(len(batches), generator=generator, device="cpu")
    return [batches[i] for i in mixing.tolist()]


def row_count(batch: Mapping[str, Tensor]) -> int:
    """The number of rows in a batch."""
    return len(next(iter(batch.values())))


def slices(size: int, batch_size: int) -> list[slice]:
    """Slices of consecutive rows, for evaluation."""
    return [slice(i, min(i + batch_size, size)) for i in range(0, size, batch_size)]


def _tensor(name: str, column: Any) -> Tensor:
    if hasattr(column, "__array__") and not isinstance(column, Tensor):
        column = _numbers(name, np.asarray(column))
    try:
        tensor = torch.as_tensor(column)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"column {name!r} is not numeric: {reason(error)}") from None
    if not tensor.dim():
        raise UserError(f"column {name!r} is one number: give one row a datum")
    return tensor


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    """An array in a type and order that torch knows."""
    if array.dtype == object:
        for row, value in enumerate(array):
            if not isinstance(value, float | int | np.number | np.ndarray):
                raise UserError(
                    f"column {name!r} is not numeric: row {row} is {str(value)[:40]!r}; fill or "
                    "drop such rows, and number words (pandas.factorize)"
                )
        array = np.stack(array.tolist()) if len(array) else array.astype(float)
    return np.ascontiguousarray(native(name, array))


def _move(column: Tensor, device: torch.device | None, dtype: torch.dtype) -> Tensor:
    return column.to(device, dtype if column.is_floating_point() else column.dtype)
