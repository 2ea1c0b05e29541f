"""The processes that train one program together: their shards of a batch and their collectives."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from inference.engine import launch
from inference.util.errors import UserError

T = TypeVar("T")
Index = Tensor | slice | None
ASK_EVERY = 50  # steps on a GPU, where reading the agreed flags waits for the device


class Processes:
    """A single process: its shard is the whole batch, collective calls return at once.

    Attributes:
        size: how many processes.
        rank: from 0; rank 0 writes files and prints.
        device: of this process.
    """

    size, rank = 1, 0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def shard(self, index: Tensor | None, rows: int) -> Index:
        """This process's rows of a batch (of all ``rows`` rows for None)."""
        return index

    def on_rank_zero(self, function: Callable[[], T]) -> T:
        """Call the function in rank 0 alone and return its result everywhere; a collective call."""
        return function()

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; a collective call."""
        return [value]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copy rank 0's values into the tensors of all processes; a collective call."""


class DistributedProcesses(Processes):
    """Several processes that torchrun started, connected by gloo on CPUs and nccl on GPUs.

    Every method but ``shard`` and ``agreed`` is a collective call: all processes must call it, in
        the same order.

    Attributes:
        interrupted: whether this process received one of ``launch.signals()``.
        due: whether this process asks for a checkpoint.

    Raises:
        UserError: the device cannot be shared; from every method: another process has ended.
    """

    def __init__(self, device: torch.device) -> None:
        from lightning_fabric import Fabric

        here = launch.number("LOCAL_WORLD_SIZE", 1)
        _refuse_device(device, here)
        for name in (
            "lightning.fabric",
            "lightning_fabric",
        ):  # silent at start
            logging.getLogger(name).setLevel(logging.WARNING)
        nodes = launch.size() // here
        self.fabric = Fabric(accelerator=device.type, strategy="ddp", devices=here, num_nodes=nodes)
        with naming_a_lost_process():
            self.fabric.launch()
        super().__init__(self.fabric.device)
        self.size, self.rank = self.fabric.world_size, self.fabric.global_rank
        self.interrupted = self.due = False
        self._sums = 0
        self._requests = torch.zeros(2)

    def shard(self, index: Tensor | None, rows: int) -> Index:
        """Consecutive rows of the batch; sizes differ by at most one between processes."""
        count = rows if index is None else len(index)
        own = slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)
        return own if index is None else index[own]

    def on_rank_zero(self, function: Callable[[], T]) -> T:
        """Call the function in rank 0; all processes return its result or raise its
        ``UserError``."""
        value, sentence = None, ""
        if self.rank == 0:
            try:
                value = function()
            except UserError as error:
                sentence = str(error)
        with naming_a_lost_process():
            value, sentence = self.fabric.broadcast((value, sentence))
        if sentence:
            raise UserError(sentence)
        return cast(T, value)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; a collective call."""
        found: list[Any] = [None] * self.size
        with naming_a_lost_process():
            torch.distributed.all_gather_object(found, value)
        return found

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copy rank 0's values into the tensors of all processes; a collective call."""
        with naming_a_lost_process():
            for tensor in tensors:
                value = tensor.detach().contiguous()
                torch.distributed.broadcast(value, 0)
                tensor.detach().copy_(value)

    def average(self, tensors: Sequence[Tensor], rows: int) -> list[Tensor]:
        """Means over processes, weighted by their ``rows``, of several tensors, by one all-reduce.

        The flags to save and to stop are summed with them.  (Fabric's all_reduce adds a barrier.)
        """
        tail = tensors[0].new_tensor([rows, self.due, self.interrupted])
        flat = torch.cat([*(tensor.reshape(-1) for tensor in tensors), tail])
        flat[:-3] *= rows
        with naming_a_lost_process():
            torch.distributed.all_reduce(flat)
        self._sums, self._requests = self._sums + 1, flat[-2:]
        means = flat[:-3].div_(flat[-3]).split([tensor.numel() for tensor in tensors])
        return [in_form_of(tensor, mean) for mean, tensor in zip(means, tensors, strict=True)]

    def agreed(self) -> tuple[bool, bool]:
        """Whether any process asked to save, and to stop, before the last ``average``."""
        if self.device.type != "cpu" and self._sums % ASK_EVERY:
            return False, False
        save, stop = (self._requests > 0).tolist()
        return save, stop


def in_form_of(tensor: Tensor, values: Tensor) -> Tensor:
    """The values reshaped and cast like a tensor."""
    rounded = values if tensor.is_floating_point() else values.round()
    return rounded.view_as(tensor).to(tensor.dtype)


@contextmanager
def launched(device: str) -> Iterator[Processes]:
    """The processes of this training; within it, a signal stops all of them after the same step."""
    if launch.size() == 1:
        yield Processes(torch.device(device))
        return
    processes = DistributedProcesses(torch.device(device))
    with _noting_signals(processes):
        yield processes
        with naming_a_lost_process():
            processes.fabric.barrier()  # so that files written by rank 0 exist for all


@contextmanager
def naming_a_lost_process() -> Iterator[None]:
    """Turn a broken connection into a ``UserError``."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            "another process of this training has ended, or does not answer; the same command with "
            "--resume goes on from the last checkpoint"
        ) from error


@contextmanager
def _noting_signals(processes: DistributedProcesses) -> Iterator[None]:
    """Record a first signal; let a second one interrupt at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: Any) -> None:
        processes.interrupted = True
        signal.signal(number, before[number])

    before: dict[int, Any] = {}
    numbers: list[int] = [*launch.signals()]
    for number in numbers:
        before[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if processes.interrupted:  # after the last step
        raise KeyboardInterrupt


def _refuse_device(device: torch.device, here: int) -> None:
    if device.index is not None or device.type not in ("cpu", "cuda"):
        raise UserError(
            f"device {str(device)!r} cannot be shared by {launch.size()} processes: give 'cpu', or "
            "'cuda' for a GPU each"
        )
    if device.type == "cuda" and torch.cuda.device_count() < here:
        raise UserError(
            f"{here} processes on a machine where torch finds {torch.cuda.device_count()} GPUs: "
            "start one for each"
        )
