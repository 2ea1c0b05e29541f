"""Both readings of Lei et al.'s cost against the sum over all masks of texts of eight units."""

import itertools

import pytest
import torch

from guides.prior import Prior
from guides.rationales import Selected
from inference import audit
from inference.estimators import (
    ARM,
    REBAR,
    DisARM,
    Exact,
    LeaveOneOut,
    MovingAverage,
    ScoreFunction,
)
from ppl_models.mask_chain import ChainPrior, Cost, cost
from ppl_models.rationales import (
    ChainRationales,
    Predictor,
    Rationales,
    Selector,
    SequentialSelector,
)
from ppl_models.readers import Bag, Convolution, Reader, Recurrent, turned

T, WIDTH, WORDS = 8, 6, 20
S, C = 0.11, 0.07
ENCODERS = [Bag, Convolution, Recurrent]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def texts():
    """Two texts of 8 and of 5 units of at most 3 words, the last unit of the first of one word."""
    x = torch.randint(1, WORDS, (2, T, 3), generator=torch.Generator().manual_seed(1))
    x[0, -1, 1:] = 0
    x[1, 5:] = 0
    return x, torch.tensor([0, 1])


def parts(encoder=Bag, selector=Selector):
    reader = Reader(torch.randn(WORDS, 5), WIDTH, encoder, buckets=50)
    return reader, selector(WIDTH, encoder), Predictor(WIDTH, encoder, 2)


def first_reading(encoder=Bag, selector=Selector):
    return Rationales(*parts(encoder, selector), Cost(S, C), size=2)


def second_reading(learn=False, beta=1.0):
    return ChainRationales(*parts(), ChainPrior(S, C, learn), size=2, beta=beta)


def sums(model):
    """log q(z | x), log p(y | z, x) and Ω(z) of all masks of each text, (2^T, 2)."""
    x, y = texts()
    units, valid = model.reader(x)
    z = torch.tensor(list(itertools.product([0.0, 1.0], repeat=T)))[:, None].expand(-1, 2, -1)
    logits = model.selector.logits(units, valid)
    log_q = torch.distributions.Bernoulli(logits=logits).log_prob(z)
    once = ((z * ~valid).sum(-1) == 0).log()  # masks that differ at padding are one
    log_p = model.predictor(units, valid, z).log_softmax(-1).gather(-1, y.expand(256, 2)[..., None])
    return (log_q * valid).sum(-1) + once, log_p[..., 0], cost(z, valid, S, C)


def exact_loss(model, guide, **columns):
    x, y = texts()
    return Exact(max_plate_nesting=1).differentiable_loss(model, guide, x=x, y=y, **columns)


def test_the_first_readings_elbo_is_the_papers_objective():
    model = first_reading()
    log_q, log_p, omega = sums(model)
    objective = (log_q.exp() * (log_p - omega)).sum()
    torch.testing.assert_close(-exact_loss(model, Prior(model)), objective)
    evidence = (log_q + log_p - omega).logsumexp(0).sum()
    assert objective < evidence - 1e-3


def test_the_second_readings_elbo_is_the_papers_objective_less_log_z_plus_the_entropy():
    model = second_reading()
    log_q, log_p, omega = sums(model)
    objective = (log_q.exp() * (log_p - omega)).sum()
    entropy = -(log_q.exp() * log_q.clamp(min=-1e9)).sum()
    log_z = torch.where(log_q > -torch.inf, -omega, -torch.inf).logsumexp(0).sum()
    elbo = -exact_loss(model, Selected(model, 0, WIDTH))
    torch.testing.assert_close(elbo, objective - log_z + entropy, rtol=1e-13, atol=1e-13)


def test_beta_weighs_the_divergence_from_the_prior():
    elbos = []
    for beta in (0.5, 1.0, 1.5):
        torch.manual_seed(0)
        model = second_reading(beta=beta)
        elbos.append(-exact_loss(model, Selected(model, 0, WIDTH)).detach())
    torch.testing.assert_close(elbos[1], (elbos[0] + elbos[2]) / 2)
    assert elbos[0] > elbos[2] + 1e-3


def test_the_cost_is_learned_through_z():
    model = second_reading(learn=True)
    exact_loss(model, Selected(model, 0, WIDTH)).backward()
    log_q, _, omega = sums(model)
    valid = model.reader(texts()[0])[1]
    z = torch.tensor(list(itertools.product([0.0, 1.0], repeat=T)))[:, None]
    kept = (z * valid).sum(-1)
    prior = torch.where(log_q > -torch.inf, -omega, -torch.inf).softmax(0)
    gradient = ((log_q.exp() - prior) * kept).sum()  # of −ELBO: E_q − E_p of the count
    torch.testing.assert_close(model.prior.s.grad, gradient.detach())


@pytest.mark.parametrize("model", [first_reading, second_reading])
def test_a_guide_that_knows_the_label_gains(model):
    model = model()
    begins = Selected(model, 0, WIDTH)
    guide = Selected(model, 2, WIDTH)
    before = exact_loss(model, begins)
    torch.testing.assert_close(exact_loss(model, guide), before)
    optimizer = torch.optim.Adam([*guide.hidden.parameters(), *guide.tilt.parameters()], 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = exact_loss(model, guide)
        loss.backward()
        optimizer.step()
    log_q, log_p, omega = sums(model)
    if isinstance(model, Rationales):
        evidence = (log_q + log_p - omega).logsumexp(0).sum()
        assert 0 < evidence + loss < 0.7 * (evidence + before)
    assert loss < before - 1e-3


def test_marked_texts_are_observed():
    model = first_reading()
    x, y = texts()
    marks = torch.tensor([[1.0, 0, 0, 1, 1, 0, 0, 0], [0.0] * 8])
    marked = torch.tensor([True, False])
    loss = exact_loss(model, Prior(model), marks=marks, marked=marked)
    log_q, log_p, omega = sums(model)
    units, valid = model.reader(x)
    logits = model.selector.logits(units, valid)
    log_m = torch.distributions.Bernoulli(logits=logits).log_prob(marks)[0].sum()
    said = model.predictor(units, valid, marks).log_softmax(-1)[0, y[0]]
    known = log_m + said - cost(marks, valid, S, C)[0]
    hidden = (log_q.exp() * (log_p - omega))[:, 1].sum()
    torch.testing.assert_close(-loss, known + hidden)


@pytest.mark.parametrize("marked", [None, torch.tensor([True, False])])
def test_one_by_one_without_memory_is_all_at_once(marked):
    model = first_reading(selector=SequentialSelector)
    torch.nn.init.zeros_(model.selector.remember.weight)
    known = {} if marked is None else {"marks": torch.ones(2, T), "marked": marked}
    one_by_one = exact_loss(model, Prior(model), **known)
    together = Selector(WIDTH, Bag)
    together.load_state_dict(model.selector.state_dict(), strict=False)
    at_once = Rationales(model.reader, together, model.predictor, model.cost, size=2)
    torch.testing.assert_close(one_by_one, exact_loss(at_once, Prior(at_once), **known))


def test_a_memory_makes_masks_depend_on_what_came_before():
    """The gradient of the memory's weights is none of rounding."""
    model = first_reading(selector=SequentialSelector)
    exact_loss(model, Prior(model)).backward()
    assert model.selector.remember.weight.grad.abs().max() > 1e-3
    assert model.selector.cell.weight_ih.grad.abs().max() > 1e-4


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_is_dropped_is_not_seen(encoder):
    model, (x, _) = first_reading(encoder), texts()
    z = torch.tensor([1.0, 0, 1, 0, 0, 1, 0, 0]).expand(2, T)
    other = torch.where((z[..., None] == 0) & (x > 0), x % (WORDS - 1) + 1, x)
    said = [model.predictor(*model.reader(words), z) for words in (x, other)]
    torch.testing.assert_close(*said)
    assert not torch.equal(x, other)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_padding_is_not_seen(encoder):
    model, (x, _) = first_reading(encoder), texts()
    z = torch.ones(2, T)
    wider = torch.nn.functional.pad(x, (0, 2, 0, 3))
    said = model.predictor(*model.reader(x), z)
    torch.testing.assert_close(
        model.predictor(*model.reader(wider), torch.nn.functional.pad(z, (0, 3))), said
    )
    logits = [model.selector.logits(*model.reader(words))[1, :5] for words in (x, wider)]
    torch.testing.assert_close(*logits)


def test_neighbours_in_a_unit_are_seen():
    model, (x, _) = first_reading(), texts()
    torch.nn.init.normal_(model.reader.pairs.weight)
    units, _ = model.reader(x)
    turned_round, _ = model.reader(x.flip(-1))
    assert (units - turned_round)[0, 0].abs().max() > 1e-3


def test_a_row_is_turned_up_to_its_length():
    x = torch.arange(5.0)[None, :, None]
    valid = torch.tensor([[True, True, True, False, False]])
    assert turned(x, valid)[0, :, 0].tolist() == [2, 1, 0, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("reading", [first_reading, second_reading])
@pytest.mark.parametrize(
    "estimator",
    [
        ScoreFunction(1),
        ScoreFunction(1, baseline=MovingAverage()),
        *(LeaveOneOut(3), ARM(1), DisARM(1), REBAR(1)),
    ],
    ids=["score", "average", "leave-one-out", "ARM", "DisARM", "REBAR"],
)
def test_estimators_are_unbiased_by_enumeration(reading, estimator):
    model, (x, y) = reading().double(), texts()
    guide = Prior(model) if reading is first_reading else Selected(model, 2, WIDTH).double()
    result = audit(
        model,
        guide,
        {"x": x, "y": y},
        [estimator],
        batch_size=None,
        samples=500,
        precision="float64",
        progress=False,
    )
    assert not any(row.biased for row in result.rows), result
