"""Sparse gradients, which hold the rows of the words a batch asks for: the dense ones' numbers."""

from functools import partial

import pytest
import torch

from guides.empty import Empty
from inference import UserError, fit
from inference.averaging import dense
from inference.nonfinite import _finite
from inference.sparse import SparseAdagrad
from inference.step import clip
from ppl_models.language import LogBilinear, WordScores
from ppl_models.nce import NCE, Noise

V, N, D = 30, 60, 4
ADAGRAD = partial(SparseAdagrad, lr=0.1)
quiet = partial(fit, progress=False, precision="float64", steps=12, batch_size=20)


def program(sparse, shared=None):
    """The same weights, whether their gradients are sparse or not."""
    torch.manual_seed(1)
    encode, score = LogBilinear(V, 2, D, sparse), WordScores(torch.zeros(V), D, sparse)
    return NCE(encode, score, Noise(torch.ones(V)), 3, N, shared)


def words():
    return {"c": torch.randint(V, (N, 2)), "w": torch.randint(V, (N,))}


@pytest.mark.parametrize("optimizer", [ADAGRAD, partial(torch.optim.SGD, lr=0.5)])
@pytest.mark.parametrize("clip_norm", [None, 0.02])
@pytest.mark.parametrize("shared", [None, 7])
def test_training_is_the_dense_one(shared, clip_norm, optimizer):
    """Elbo, norm and parameters; an Adagrad whose gradient is zero does not move."""
    data = words()
    runs = [
        quiet(program(s, shared), Empty(), data, None, optimizer, clip_norm=clip_norm)
        for s in (True, False)
    ]
    for name in ("elbo", "grad_norm"):
        a, b = (torch.from_numpy(run.trace["svi"][name].to_numpy()) for run in runs)
        assert torch.allclose(a, b, rtol=1e-12)
    assert (a > 0.02).all()
    for name, value in runs[0].params.items():
        assert torch.allclose(value, runs[1].params[name], rtol=1e-12, atol=1e-14)
    score = runs[0].programs[0].model.score
    assert score.u.grad.is_sparse
    assert score.u.grad.values().shape[0] < V


def test_a_word_asked_for_twice_counts_with_its_sum():
    """Unsummed, the rows' norm would be √2 in place of 2."""
    weight = torch.nn.Parameter(torch.zeros(3, 1))
    torch.nn.functional.embedding(torch.tensor([1, 1]), weight, sparse=True).sum().backward()
    assert clip([weight], 1.0) == 2
    assert torch.allclose(dense(weight.grad), torch.tensor([[0.0], [1.0], [0.0]]), rtol=1e-6)


@pytest.mark.parametrize("value", [1.0, torch.nan, torch.inf])
def test_a_nan_among_the_rows_is_found(value):
    rows = torch.sparse_coo_tensor([[2, 2]], [1.0, value], (5,), check_invariants=True)
    assert _finite(rows) == (value == 1.0)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    stopped = []

    def half(progress):
        """Interrupted at the sixth step, the first time that it is come to."""
        if progress == 0.5 and len(stopped) < 1:
            stopped.append(progress)
            raise KeyboardInterrupt
        return 1.0

    data, models = words(), [program(sparse=True) for _ in range(3)]
    resume = partial(quiet, directory=tmp_path, resume=True, schedule=half)
    with pytest.raises(KeyboardInterrupt):
        resume(models[0], Empty(), data, None, ADAGRAD)
    resume(models[1], Empty(), data, None, ADAGRAD)
    quiet(models[2], Empty(), data, None, ADAGRAD)
    for a, b in zip(models[1].parameters(), models[2].parameters(), strict=True):
        assert torch.equal(a, b)


def test_compiling_them_is_refused():
    with pytest.raises(UserError, match="dense"):
        quiet(program(sparse=True), Empty(), words(), None, ADAGRAD, compile=True)
