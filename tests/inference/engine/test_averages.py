"""What several processes tell each other, its arithmetic alone: no process is started."""

import pytest
import torch

from inference.engine.processes import DistributedProcesses, in_form_of


def processes(rank=0, size=2):
    found = object.__new__(DistributedProcesses)
    found.rank, found.size, found.device = rank, size, torch.device("cpu")
    found.due, found.interrupted, found._sums = False, True, 0
    return found


def test_an_average_is_weighted_by_rows_and_carries_requests(monkeypatch):
    """What all_reduce adds is the other's: 1 row beside 3."""
    ours = [torch.tensor([[1.0, 2.0]]), torch.tensor(5.0), torch.tensor([4])]
    theirs = torch.tensor([5.0, -2.0, 1.0, 8.0, 1.0, 1.0, 0.0])  # times 1 row; rows; due; no stop

    def add(flat):
        flat += theirs

    monkeypatch.setattr(torch.distributed, "all_reduce", add)
    here = processes()
    found = here.average(ours, 3)
    expected = [torch.tensor([[2.0, 1.0]]), torch.tensor(4.0), torch.tensor([5])]
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert here.agreed() == (True, True)
    assert here._sums == 1


def test_values_take_a_tensor_s_form():
    found = in_form_of(torch.zeros(2, 1).long(), torch.tensor([1.6, 2.4]))
    assert torch.equal(found, torch.tensor([[2], [2]]))
    found = in_form_of(torch.zeros(1, 2, dtype=torch.float32), torch.tensor([1.6, 2.4]))
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.tensor([[1.6, 2.4]], dtype=torch.float32))


@pytest.mark.parametrize("rows", [1, 7, 8])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_are_consecutive_and_even(rows, size):
    index = torch.randperm(20)[:rows]
    parts = [processes(rank, size).shard(index, 20) for rank in range(size)]
    assert torch.equal(torch.cat(parts), index)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    every = torch.arange(20)
    whole = [every[processes(rank, size).shard(None, 20)] for rank in range(size)]
    assert torch.equal(torch.cat(whole), every)
