"""Skip-gram: word2vec's objective, written out pair by pair; Gaussian vectors and their ELBO.

Where draws are random, |z| < 4.5 over at most sixty figures: a false alarm in 2,000 at the most.
"""

import math
from functools import partial

import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.nn import functional as F

from guides.empty import Empty
from guides.word_vectors import MeanFieldSkipGram
from ppl_models.nce import NCE, InfoNCE, NegativeSampling, Noise, SampledSoftmax
from ppl_models.skip_gram import GaussianVectors, Products, SkipGram, WordVectors, inner, windows

V, D, W, C, M, K = 7, 3, 3, 6, 4, 5
N, B = 20, 4
Q = torch.tensor([0.05, 0.1, 0.1, 0.15, 0.2, 0.2, 0.2], dtype=torch.float64)
Z = 4.5


def batch(rows=B):
    """Rows of several sentences each, all of which windows could leave."""
    ends = torch.rand(rows, W + C + W) < 0.25
    return {
        "words": torch.randint(V, (rows, W + C + W), dtype=torch.int32),
        "sentence": ends.cumsum(-1),
        "noise": torch.randint(V, (rows, M)),
    }


def point(kind):
    u, v = WordVectors(V, D, 1.0), WordVectors(V, D, 1.0)
    return SkipGram(kind(u, Products(v), Noise(Q), K, N), W)


def neighbours(words, sentence):
    """(row, centre's place, neighbour's place, its weight), as word2vec's loops have them."""
    for row in range(len(words)):
        for i in range(W, W + C):
            for j in range(W + C + W):
                if i != j and abs(i - j) <= W and sentence[row, i] == sentence[row, j]:
                    yield row, i, j, (W + 1 - abs(i - j)) / W


def by_hand(kind, score, words, sentence, noise):
    """Σ over pairs, for score(row, centre's place, place of a word, of a noise word)."""
    total = torch.zeros(())
    for row, i, j, weight in neighbours(words, sentence):
        s = score(row, i, words[row, j], j)
        beside = torch.stack([score(row, i, w, W + C + W + n) for n, w in enumerate(noise[row])])
        if kind is NCE:
            s = s - (K * Q[words[row, j]]).log()
            beside = beside - (K * Q[noise[row]]).log()
        if kind is SampledSoftmax:
            s, beside = s - Q[words[row, j]].log(), beside - Q[noise[row]].log()
        if kind in (NCE, NegativeSampling):
            term = F.logsigmoid(s) + K * F.logsigmoid(-beside).mean()
        else:
            term = s - torch.cat([s[None], beside]).logsumexp(0)
        total = total + weight * term
    return total


@pytest.mark.parametrize("kind", [NegativeSampling, NCE, SampledSoftmax, InfoNCE])
def test_the_elbo_is_word2vecs_objective(kind):
    model, rows = point(kind), batch()
    u, v = model.contrast.encode.table, model.contrast.score.vectors.table
    score = lambda row, i, word, place: u[rows["words"][row, i]] @ v[word]  # noqa: E731
    found = -Trace_ELBO().differentiable_loss(model, Empty(), **rows)
    expected = N / B * by_hand(kind, score, **rows)
    assert torch.allclose(found, expected, rtol=1e-12)
    for a, b in zip(*(torch.autograd.grad(x, [u, v]) for x in (found, expected)), strict=True):
        assert torch.allclose(a.to_dense(), b, rtol=1e-10, atol=1e-12)


def test_words_alone_in_their_sentence_have_no_window():
    rows = batch() | {"sentence": torch.arange(W + C + W).expand(B, -1)}
    assert Trace_ELBO().loss(point(NegativeSampling), Empty(), **rows) == 0


def test_the_taper_is_the_expected_window():
    """word2vec draws b of 1 … W for each centre, and takes what is at most b away."""
    taper = point(NegativeSampling).taper
    distance = torch.arange(-W, W + 1).abs()
    drawn = [(distance > 0) & (distance <= b) for b in range(1, W + 1)]
    assert torch.allclose(taper, torch.stack(drawn).double().mean(0), rtol=1e-15)


def test_windows_are_diagonals():
    square = torch.arange(2 * 3 * 7).reshape(2, 3, 7)
    found = windows(square, 2)
    assert found.shape == (2, 3, 5)
    for row in range(2):
        for i in range(3):
            assert found[row, i].tolist() == square[row, i, i : i + 5].tolist()
    assert inner(square, 2).tolist() == square[..., 2:5].tolist()


# -- latent vectors ------------------------------------------------------------------------------


def bayesian(kind=NegativeSampling, seed=1):
    """Model and guide, q far from the prior; n_w such that no two words share out alike."""
    torch.manual_seed(seed)
    u = GaussianVectors("u", D, 1 + 5 * torch.rand(V))
    v = GaussianVectors("v", D, 1 + 5 * torch.rand(V))
    model = SkipGram(kind(u, Products(v), Noise(Q), K, N), W)
    guide = MeanFieldSkipGram(model, u, v)
    for site in (guide.u, guide.v):
        torch.nn.init.normal_(site.loc)
        torch.nn.init.uniform_(site.log_scale, -1.0, 0.3)
    return model, guide


def kl(site):
    """(V,) KL(q(v_w) ‖ p(v_w)), the Gaussians' by hand; p's variance is 1 / √D."""
    variance, s2 = 1 / math.sqrt(D), (2 * site.log_scale).exp()
    return 0.5 * ((s2 + site.loc**2) / variance - 1 - (s2 / variance).log()).sum(-1)


def divergence(guide, words, sentence, noise):
    """A batch's Σ over places of KL / n_w."""
    shares = [(kl(site) * site.prior[0].share) for site in (guide.u, guide.v)]
    inside, everywhere = inner(words, W), torch.cat([words, noise], -1)
    return shares[0][inside].sum() + shares[1][everywhere].sum()


def pairs(words, sentence, noise):
    """(V, V) the weights of a word as another's neighbour, and as noise beside it."""
    data, beside = torch.zeros(V, V), torch.zeros(V, V)
    for row, i, j, weight in neighbours(words, sentence):
        data[words[row, i], words[row, j]] += weight
        for w in noise[row]:
            beside[words[row, i], w] += weight * K / M
    return data, beside


def shared(guide, draws, rows):
    """(draws,) log-likelihoods of the batch where each word has one vector, wherever it stands."""
    vectors = []
    for site in (guide.u, guide.v):
        scale = site.log_scale.exp()
        vectors.append(site.loc + scale * torch.randn(draws, V, D))
    s = vectors[0] @ vectors[1].mT
    data, beside = pairs(**rows)
    return (data * F.logsigmoid(s) + beside * F.logsigmoid(-s)).sum((-1, -2))


def particles(kind, count):
    return kind(num_particles=count, vectorize_particles=True, max_plate_nesting=3)


def test_a_score_has_the_variance_1():
    """A priori, of 200,000 draws; 2 % more or less would be seen."""
    prior = GaussianVectors("u", 50, torch.ones(1))
    u, v = (prior.scale * torch.randn(200_000, 50) for _ in range(2))
    square = (u * v).sum(-1) ** 2
    assert abs(square.mean() - 1) < Z * square.std() / math.sqrt(len(square)) < 0.02
    sites = poutine.trace(bayesian()[0]).get_trace(**batch()).nodes
    assert sites["u"]["fn"].base_dist.scale.unique().tolist() == [D**-0.25]


def test_a_words_places_share_out_its_kl():
    """TraceMeanField's KL is the Gaussians' own: less the likelihood, exactly."""
    (model, guide), rows = bayesian(), batch()
    torch.manual_seed(3)
    loss = TraceMeanField_ELBO().differentiable_loss(model, guide, **rows)
    torch.manual_seed(3)
    drawn = poutine.trace(guide).get_trace(**rows)
    trace = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(**rows)
    trace.compute_log_prob()
    likelihood = sum(trace.nodes[site]["log_prob_sum"] for site in ("data", "noise"))
    assert torch.allclose(loss + likelihood, N / B * divergence(guide, **rows), rtol=1e-12)


@pytest.mark.parametrize("kind", [Trace_ELBO, TraceMeanField_ELBO])
def test_places_of_a_word_may_draw_for_themselves(kind):
    """The ELBO is that of one draw a word; 20,000 of each, standard error below .5 %."""
    (model, guide), rows = bayesian(), batch()
    with torch.no_grad():
        own = [-particles(kind, 500).loss(model, guide, **rows) for _ in range(40)]
        one = N / B * (shared(guide, 20_000, rows) - divergence(guide, **rows))
    own, error = torch.tensor(own), one.std() / math.sqrt(len(one))
    error = torch.hypot(error, own.std() / math.sqrt(len(own)))
    assert error < 0.005 * one.mean().abs()
    assert abs(own.mean() - one.mean()) < Z * error


def gradients(loss, parameters, times):
    """(times, …) gradients in a row, dense."""
    every = []
    for _ in range(times):
        found = torch.autograd.grad(loss(), parameters)
        every.append(torch.cat([g.to_dense().flatten() for g in found]))
    return torch.stack(every)


def test_gradients_are_those_of_one_draw_a_word():
    """84 figures by each of two estimators and of the formula: a false alarm in 1,000."""
    (model, guide), rows = bayesian(), batch()
    parameters = list(guide.parameters())
    ways = [
        partial(particles(kind, 50).differentiable_loss, model, guide, **rows)
        for kind in (Trace_ELBO, TraceMeanField_ELBO)
    ]
    ways.append(lambda: N / B * (divergence(guide, **rows) - shared(guide, 50, rows).mean()))
    found = [gradients(way, parameters, 200) for way in ways]
    means, errors = zip(*((g.mean(0), g.std(0) / math.sqrt(len(g))) for g in found), strict=True)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        z = (means[i] - means[j]) / torch.hypot(errors[i], errors[j])
        assert z.abs().max() < Z
    assert errors[2].norm() < 0.02 * means[2].norm()


def test_first_vectors_are_uniform():
    """10,000 entries on ±.3: mean 0 and variance .03, |z| < 4.5."""
    table = WordVectors(200, 50, 0.3).table.detach()
    assert 0.299 < table.max() < 0.3
    assert -0.3 < table.min() < -0.299
    assert abs(table.mean()) < Z * 0.03**0.5 / 100
    assert torch.equal(WordVectors(2, 3).table, torch.zeros(2, 3))
