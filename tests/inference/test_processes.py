"""Several processes train as one does: the same numbers, files, sentences and ends."""

import subprocess
import sys

import pytest
import torch

from tests.inference import together

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def torchrun(number, *command, **options):
    """Several processes of a module or script, under torchrun."""
    parts = [*TORCHRUN, "--nproc-per-node", str(number), *map(str, command)]
    return subprocess.Popen(parts, **options)


@pytest.fixture(scope="module")
def by_rank(tmp_path_factory):
    """What each of two processes has found."""
    folder = tmp_path_factory.mktemp("ranks")
    assert torchrun(2, "-m", "tests.inference.together", folder).wait(timeout=300) == 0
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", together.jobs())
def test_two_processes_are_one(name, by_rank):
    """Under the same noise: trace, parameters, buffers to 1e-12; both processes bit for bit."""
    alone = together.train(together.jobs()[name])
    first, second = (found[name] for found in by_rank)
    assert alone.keys() == first.keys()
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, rtol=1e-12, atol=1e-12, msg=key)
        assert torch.equal(first[key].nan_to_num(), second[key].nan_to_num()), key
