"""Sparse gradients, which hold the rows of the words a batch asks for: the dense ones' numbers."""

import copy
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceGraph_ELBO
from pyro.nn import PyroModule
from torch import nn
from torch.nn import functional as F

from guides.empty import Empty
from inference import UserError, fit
from inference.engine.gradient.plain import clip_gradients
from inference.engine.optim import RowwiseSGD, SparseAdagrad
from inference.engine.program.nonfinite import _finite
from inference.engine.sparse_rows import as_dense
from ppl_models.language import LogBilinear, WordScores
from ppl_models.nce import NCE, NegativeSampling, Noise
from ppl_models.skip_gram import Products, SkipGram, WordVectors

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
    assert clip_gradients([weight], 1.0) == 2
    assert torch.allclose(as_dense(weight.grad), torch.tensor([[0.0], [1.0], [0.0]]), rtol=1e-6)


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


# -- captured ------------------------------------------------------------------------------------


def tied():
    """Skip-gram whose words and neighbours have the same vectors: one table, looked up twice."""
    torch.manual_seed(1)
    table = WordVectors(V, D, 0.5)
    model = SkipGram(NegativeSampling(table, Products(table), Noise(torch.ones(V)), 3, N), 2)
    text = {"words": torch.randint(V, (N, 9), dtype=torch.int32)}
    return model, text | {
        "sentence": torch.zeros(N, 9, dtype=torch.int32),
        "noise": torch.randint(V, (N, 3)),
    }


def assert_captured(make, data, optimizer=ADAGRAD, **options):
    """Compiled and not, elbo, norm and parameters are the same."""
    runs = [
        quiet(make(), Empty(), data, None, optimizer, compile=compile, **options)
        for compile in (True, False)
    ]
    for name in ("elbo", "grad_norm"):
        a, b = (torch.from_numpy(run.trace["svi"][name].to_numpy()) for run in runs)
        assert torch.allclose(a, b, rtol=1e-10)
    for name, value in runs[0].params.items():
        assert torch.allclose(value, runs[1].params[name], rtol=1e-10, atol=1e-12)
    return runs[0].programs[0]


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize(
    ("shared", "clip_norm", "optimizer"),
    [(7, None, ADAGRAD), (None, 0.02, ADAGRAD), (7, 0.02, partial(RowwiseSGD, lr=2.0, reach=0.05))],
)
def test_captured_training_is_the_uncompiled_one(shared, clip_norm, optimizer):
    """Tables of sparse gradients beside C, whose gradient is dense."""
    make = partial(program, True, shared)
    done = assert_captured(make, words(), optimizer, clip_norm=clip_norm).model
    assert done.score.u.grad.is_sparse
    assert not done.encode.C.grad.is_sparse
    assert not torch.equal(done.score.u, make().score.u)


@pytest.mark.usefixtures("_backend")
def test_a_table_that_is_looked_up_twice():
    """Numbers of rows in int32 and int64; its gradient is the sum of both."""
    model, data = tied()
    done = assert_captured(lambda: copy.deepcopy(model), data)
    assert [name for name, _ in done.model.named_parameters()] == ["contrast.encode.table"]


@pytest.mark.usefixtures("_backend")
def test_a_table_of_the_parameter_store_one_row_for_all():
    """In a function; looked up at a single number."""

    def model(x):
        table = pyro.param("table", lambda: torch.zeros(V, 1))
        m = F.embedding(torch.tensor(3), table, sparse=True)
        with pyro.plate("rows", N, subsample=x):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    done = assert_captured(lambda: model, {"x": 1 + torch.randn(N)})
    assert done.values()["table"].nonzero().tolist() == [[3, 0]]


class Odd(PyroModule):
    """x ~ N(t_w, 1), t_w looked up sparsely; but the table is used in another way, too."""

    def __init__(self, dense=False, **options):
        super().__init__()
        self.table = nn.Parameter(torch.ones(V, 1))
        self.dense, self.options = dense, options

    def forward(self, c, w):
        rows = F.embedding(w, self.table, sparse=True, **self.options).squeeze(-1)
        with pyro.plate("rows", N, subsample=w):
            beside = self.table.sum() if self.dense else 0.0
            pyro.sample("x", dist.Normal(rows + beside, 1.0), obs=c[..., 0].double())


@pytest.mark.parametrize(
    ("make", "estimator", "sentence"),
    [
        (partial(Odd, dense=True), None, r"'model.table' has sparse .*sparse=True\) alone"),
        (partial(Odd, padding_idx=0), None, r"'model.table' has sparse .*sparse=True\) alone"),
        (partial(program, True), TraceGraph_ELBO(), "a differentiable_loss, or fit without"),
        (Odd, TraceGraph_ELBO(), "a differentiable_loss, or fit without"),  # no gradient is dense
    ],
)
def test_what_a_graph_cannot_hold_is_refused(make, estimator, sentence):
    quiet(make(), Empty(), words(), estimator, ADAGRAD)
    with pytest.raises(UserError, match=sentence) as refusal:
        quiet(make(), Empty(), words(), estimator, ADAGRAD, compile=True)
    assert str(refusal.value).count("\n") == 0


def test_seeds_at_once_are_refused():
    with pytest.raises(UserError, match="seeds_at_once cannot hold sparse gradients: make them"):
        quiet(
            program(True),
            Empty(),
            words(),
            None,
            ADAGRAD,
            compile=True,
            seeds_at_once=True,
            seeds=2,
        )


# -- steps of a row ------------------------------------------------------------------------------


def stepped(optimizer, gradients, start, schedule=(1.0,)):
    """Parameters after a step with each of these gradients."""
    parameters = [nn.Parameter(p.clone()) for p in start]
    found = optimizer(parameters)
    for factor in schedule:
        for group in found.param_groups:
            group["lr"] = found.defaults["lr"] * factor
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        found.step()
    return parameters


def some(at=(4, 0, 4, 2)):
    """Gradients of a table at three rows, one of them twice, and two dense ones; parameters."""
    values = torch.randn(len(at), 3)
    rows = torch.sparse_coo_tensor([list(at)], values, (6, 3), check_invariants=True)
    gradients = [rows, torch.randn(5, 2, 2), torch.randn(4)]
    return gradients, [torch.randn(gradient.shape) for gradient in gradients]


def test_within_reach_it_is_sgd():
    gradients, start = some()
    schedule = (1.0, 0.5, 0.1)
    found = stepped(partial(RowwiseSGD, lr=0.3, reach=100.0), gradients, start, schedule)
    usual = stepped(partial(torch.optim.SGD, lr=0.3), gradients, start, schedule)
    for a, b in zip(found, usual, strict=True):
        assert torch.allclose(a, b, rtol=1e-14)


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_no_row_moves_farther_than_its_reach(factor):
    """Rows of the usual step that are longer are cut to it, in their direction; others stay."""
    gradients, start = some()
    found = stepped(partial(RowwiseSGD, lr=0.4, reach=0.3), gradients, start, (factor,))
    cut = []
    for new, old, gradient in zip(found, start, gradients, strict=True):
        usual = -0.4 * factor * (gradient.to_dense() if gradient.is_sparse else gradient)
        for moved, would in zip(new - old, usual, strict=True):
            length = would.norm()
            cut.append(bool(length > 0.3))
            expected = would * (0.3 / length) if length > 0.3 else would
            assert torch.allclose(moved, expected, rtol=1e-12, atol=1e-15)
    assert {True, False} == set(cut)


def test_a_row_asked_for_twice_is_summed_before_it_is_cut():
    """Two that cancel do not move it; cut one by one, 3 and −2 would."""
    gradient = torch.sparse_coo_tensor([[1, 1]], [[3.0], [-2.75]], (3, 1), check_invariants=True)
    (moved,) = stepped(partial(RowwiseSGD, lr=1.0, reach=1.0), [gradient], [torch.zeros(3, 1)])
    assert moved.flatten().tolist() == [0.0, -0.25, 0.0]


def test_a_closure_has_gradients():
    weight = nn.Parameter(torch.ones(2, 1))

    def loss():
        weight.grad = None
        value = (weight**2).sum()
        value.backward()
        return value

    assert RowwiseSGD([weight], lr=0.25, reach=9.0).step(loss) == 2
    assert weight.flatten().tolist() == [0.5, 0.5]
