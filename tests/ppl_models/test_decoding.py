"""Decoding: exhaustive and exact on a captioner so small that all of its captions can be listed."""

import itertools

import pytest
import torch
from pyro import poutine
from scipy.stats import chi2

from ppl_models.captioner import END, Captioner, HardAttention, SoftAttention
from ppl_models.decoding import UNKNOWN, beam_search, sample_captions

V, T, L, D = 4, 4, 5, 6


@pytest.fixture
def captioner():
    torch.manual_seed(1)
    captioner = Captioner(D, V, embedding=7, hidden=8, attention=9)
    for parameter in captioner.parameters():
        parameter.requires_grad_(False).mul_(
            4
        )  # captions of clearly different probability, looks that matter
    return captioner


@pytest.fixture
def a():
    return 2 * torch.randn(40, L, D)


def captions(unknown=True):
    """All of them, (count, T): the words up to END, or T words."""
    said = [w for w in range(V) if unknown or w != UNKNOWN]
    rows = {
        row[: row.index(END)] if END in row else row for row in itertools.product(said, repeat=T)
    }
    return torch.tensor([[*row, *[END] * (T - len(row))] for row in sorted(rows)])


def log_prob(captioner, a, y):
    """(count,) log p(y | a) of soft attention for one picture's a (L, D), as the model says it."""
    model = SoftAttention(captioner, len(y)).eval()
    site = poutine.trace(model).get_trace(a.expand(len(y), L, D), y).nodes["y"]
    return site["fn"].log_prob(site["value"])


def lengths(y, longest=T):
    return ((y != END).sum(-1) + 1).clamp(max=longest)


def test_all_captions_together_have_probability_one(captioner, a):
    assert log_prob(captioner, a[0], captions()).exp().sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("unknown", [True, False])
@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.5])
def test_a_beam_as_wide_as_there_are_captions_finds_the_best(captioner, a, unknown, length_penalty):
    y = captions(unknown)
    found = beam_search(captioner, a, len(y), T, length_penalty, unknown)
    for i in range(len(a)):
        exact = log_prob(captioner, a[i], y)
        best = (exact / lengths(y) ** length_penalty).argmax()
        assert found.words[i].tolist() == y[best].tolist()
        torch.testing.assert_close(found.log_prob[i], exact[best])


def test_width_one_is_greedy(captioner, a):
    found = beam_search(captioner, a, width=1, longest=T, unknown=True)
    said, over = torch.zeros(len(a), T, dtype=torch.long), torch.zeros(len(a), dtype=torch.bool)
    model = SoftAttention(captioner, len(a)).eval()
    for t in range(T):
        site = poutine.trace(model).get_trace(a, said).nodes["y"]
        word = site["fn"].base_dist.base_dist.logits[:, t].argmax(-1)
        said[:, t] = word.masked_fill(over, END)
        over |= word == END
    assert found.words.tolist() == said.tolist()
    assert len({tuple(row) for row in said.tolist()}) > 1


def test_greedy_misses_what_an_exhaustive_beam_finds(captioner, a):
    wide, narrow = (beam_search(captioner, a, k, T, unknown=True) for k in (len(captions()), 1))
    assert (wide.log_prob >= narrow.log_prob).all()
    assert (wide.log_prob > narrow.log_prob + 1e-9).sum() >= 5
    assert set(wide.lengths.tolist()) == set(range(1, T + 1))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_batch_is_its_pictures_one_by_one(captioner, a, length_penalty):
    together = beam_search(captioner, a, 3, 6, length_penalty)
    for i in range(len(a)):
        alone = beam_search(captioner, a[i : i + 1], 3, 6, length_penalty)
        assert alone.words[0].tolist() == together.words[i].tolist()
        for one, all_ in zip(alone[1:], together[1:], strict=True):
            torch.testing.assert_close(one[0], all_[i])


def test_log_prob_and_attention_are_those_of_the_model_whatever_the_number_of_beams(captioner, a):
    model = HardAttention(captioner, len(a)).eval()
    found = beam_search(captioner, a, 4, 6, 1.0, attention="sampled")
    looks = {f"s_{t}": found.looked[:, t] for t in range(6)}
    trace = poutine.trace(poutine.condition(model, looks)).get_trace(a, found.words)
    exact = sum(trace.nodes[f"y_{t}"]["fn"].log_prob(found.words[:, t]) for t in range(6))
    torch.testing.assert_close(found.log_prob, exact)
    for t in range(6):
        said = found.attention[:, t].sum(-1) > 0
        alpha = trace.nodes[f"s_{t}"]["fn"].probs
        torch.testing.assert_close(found.attention[said, t], alpha[said])
        assert found.looked[said, t].sum(-1).eq(1).all()
        assert found.looked[said, t].max(-1).values.eq(1).all()
    assert found.lengths.tolist() == lengths(found.words, 6).tolist()
    assert ((found.attention.sum(-1) > 0).sum(-1) == found.lengths).all()


@pytest.mark.gpu
def test_a_gpu_says_the_same(captioner, a):
    here = beam_search(captioner, a, 4, 6, 1.0)
    there = beam_search(captioner.cuda(), a.cuda(), 4, 6, 1.0)
    assert there.words.tolist() == here.words.tolist()
    torch.testing.assert_close(there.log_prob.cpu(), here.log_prob)
    torch.testing.assert_close(there.attention.cpu(), here.attention)


def test_dropout_is_off_and_the_captioner_left_as_it_was(captioner, a):
    captioner.train()
    first, second = (beam_search(captioner, a, 2, T) for _ in range(2))
    assert first.log_prob.tolist() == second.log_prob.tolist()
    assert captioner.training


@pytest.mark.parametrize("unknown", [True, False])
def test_captions_are_drawn_at_their_probabilities(captioner, a, unknown):
    """Chi-square of all captions, error rate 10⁻⁴; without UNKNOWN, of each word renormalised."""
    count, y = 40_000, captions(unknown)
    drawn = sample_captions(captioner, a[:1].expand(count, L, D), T, unknown)
    exact = log_prob(captioner, a[0], y)
    at = (drawn.words.unsqueeze(1) == y).all(-1).long().argmax(1)
    torch.testing.assert_close(drawn.words, y[at])
    torch.testing.assert_close(drawn.log_prob, exact[at])
    expected = count * (exact.exp() if unknown else renormalised(captioner, a[0], y))
    seen = torch.bincount(at, minlength=len(y)).to(expected)
    common = expected >= 5
    seen, expected = (torch.cat([x[common], x[~common].sum()[None]]) for x in (seen, expected))
    statistic = ((seen - expected) ** 2 / expected.clamp(min=1e-9)).sum()
    assert statistic < chi2.ppf(1 - 1e-4, len(seen) - 1)


def renormalised(captioner, a, y):
    """(count,) probabilities of y where no word may be UNKNOWN."""
    model = SoftAttention(captioner, len(y)).eval()
    site = poutine.trace(model).get_trace(a.expand(len(y), L, D), y).nodes["y"]
    logits = site["fn"].base_dist.base_dist.logits.clone()
    logits[..., UNKNOWN] = -torch.inf
    real = site["fn"].base_dist._mask
    said = logits.log_softmax(-1).gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return said.where(real, 0.0).sum(-1).exp()


def test_looks_are_drawn_at_their_attention(captioner, a):
    """Chi-square of the first look, error rate 10⁻⁴."""
    count = 20_000
    drawn = sample_captions(captioner, a[:1].expand(count, L, D), 1, attention="sampled")
    expected = count * drawn.attention[0, 0]
    statistic = ((drawn.looked[:, 0].sum(0) - expected) ** 2 / expected).sum()
    assert expected.min() > 5
    assert statistic < chi2.ppf(1 - 1e-4, L - 1)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"longest": 0}, {"length_penalty": -0.1}])
def test_what_cannot_be_searched_is_refused(captioner, a, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        beam_search(captioner, a, **wrong)
