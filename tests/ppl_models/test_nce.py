"""Noise-contrastive estimation of a language of fifty words: objectives, optima, their errors.

Where draws are random, the false-alarm rate of a test is at most 1e-3 (|z| < 4.5 over fifty words,
|z| < 4 for single figures), and a mistake of the kind it is made for is shown to be seen.
"""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn
from torch.nn import functional as F

from guides.empty import Empty
from inference import fit
from ppl_models.nce import (
    NCE,
    InfoNCE,
    NegativeSampling,
    Noise,
    SampledSoftmax,
    Softmax,
    alias_table,
)
from tests.support.oracle import z_of

V = 50
RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.full(V, 4.0))
Q = RNG.dirichlet(np.full(V, 4.0))
P_T, Q_T = torch.from_numpy(P), torch.from_numpy(Q)
WORDS = 4.5  # |z| at most over fifty words
CONTRASTS = [NCE, NegativeSampling, SampledSoftmax, InfoNCE]


class Table(nn.Module):
    """s(w | c) = θ_cw; the features of a context are its number."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(theta.clone())

    def forward(self, h, words=None):
        if words is None or words.dim() == 1:
            return self.theta[h] if words is None else self.theta[h][..., words]
        return self.theta[h.unsqueeze(-1), words]


def program(kind, theta, k, size, **options):
    return kind(nn.Identity(), Table(theta), Noise(Q_T), k, size, **options)


def loss(model, c, w):
    return Trace_ELBO().differentiable_loss(model, Empty(), c, w)


def gradient(model, c, w):
    return torch.autograd.grad(loss(model, c, w), model.score.theta)[0]


def data(contexts, rows):
    """Each context's number and a word from p, ``rows`` times."""
    w = Noise(P_T).sample(contexts, rows)
    return torch.arange(contexts)[:, None].expand_as(w).flatten(), w.flatten()


def noise_of(model, w, seed):
    """The words that the program draws from this random state."""
    pyro.set_rng_seed(seed)
    return model.noise.sample(*((model.shared,) if model.shared else (*w.shape, model.k)))


def kl(p, log_u):
    """KL(p ‖ u / Z), nats."""
    return (p * (p.log() - log_u.log_softmax(-1))).sum(-1)


# -- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [Q, np.full(7, 1 / 7), np.array([1.0]), np.array([0.98, 0.01, 0.01])])
def test_the_alias_table_holds_q(q):
    share, alias = alias_table(q)
    held = share.copy()
    np.add.at(held, alias, 1 - share)
    assert np.allclose(held / len(q), q, rtol=1e-12)


def test_draws_follow_q():
    """Two million: relative error .5 %, so that 2.5 % in any word would be seen."""
    n, noise = 2_000_000, Noise(3 * Q_T)
    counts = noise.sample(n // 4, 4).flatten().bincount(minlength=V)
    z = (counts - n * Q_T) / (n * Q_T * (1 - Q_T)).sqrt()
    assert z.abs().max() < WORDS
    assert torch.allclose(noise.log_prob(torch.arange(V)), Q_T.log(), rtol=1e-12)


def test_noise_of_counts_in_single_precision_is_that_of_the_counts():
    """The sum, of 2²⁴ + 50, is no float32."""
    counts = torch.cat([torch.ones(50), torch.tensor([2.0**24])])
    found = Noise(counts.float()).log_prob()
    assert torch.allclose(found, (counts / counts.sum()).log(), rtol=1e-12)


@pytest.mark.parametrize("weights", [[1e-300, 1e300], [-0.5, -0.5]])
def test_noise_whose_share_underflows_or_is_of_negative_weights_is_refused(weights):
    with pytest.raises(ValueError, match="every word"):
        Noise(torch.tensor(weights))


@pytest.mark.parametrize("kind", CONTRASTS)
def test_every_word_of_a_row_is_in_a_plate(kind):
    """(B, T) words: rows, places, and one candidate (k of noise) each."""
    model = program(kind, torch.zeros(V, V), 5, 8)
    c, w = torch.zeros(4, 3).long(), torch.ones(4, 3).long()
    trace = poutine.trace(model).get_trace(c, w)
    for name, last in (("data", 1), ("noise", 5)):
        if name in trace:
            frames = trace.nodes[name]["cond_indep_stack"]
            sizes = {f.dim: f.size for f in frames if f.vectorized}
            beside = {-1: last} if kind in (NCE, NegativeSampling) or name == "noise" else {-1: 1}
            assert sizes == {-3: 4, -2: 3} | beside


@pytest.mark.parametrize("bad", [0.0, -1.0, torch.nan, torch.inf])
def test_noise_reaches_every_word(bad):
    with pytest.raises(ValueError, match="give positive weights"):
        Noise(torch.tensor([1.0, bad]))


def test_noise_whose_weights_overflow_is_refused():
    with pytest.raises(ValueError, match="give positive weights"):
        Noise(torch.full((4,), 1e308))  # their sum is infinite, q would be 0


# -- the objectives are their formulas -----------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (4,)])
@pytest.mark.parametrize("shared", [None, 7])
@pytest.mark.parametrize("kind", CONTRASTS)
def test_the_elbo_by_hand_scaled_to_the_whole_data(kind, shared, shape):
    """N = 60 rows of one word, or of four, in a batch of six."""
    k, batch, size = 3, 6, 60
    model = program(kind, torch.randn(2, V), k, size, shared=shared)
    c, w = torch.randint(2, (batch, *shape)), torch.randint(V, (batch, *shape))
    n = noise_of(model, w, 1)
    pyro.set_rng_seed(1)
    found = poutine.trace(model).get_trace(c, w).log_prob_sum()

    theta, words = model.score.theta, n.expand(*w.shape, n.shape[-1])
    s, s_n = theta[c, w], theta[c[..., None], words]
    beside = k / words.shape[-1]
    if kind is NCE:
        s, s_n = s - (k * Q_T[w]).log(), s_n - (k * Q_T[words]).log()
    if kind is SampledSoftmax:
        s, s_n = s - Q_T[w].log(), s_n - Q_T[words].log()
    if kind in (NCE, NegativeSampling):
        expected = F.logsigmoid(s).sum() + beside * F.logsigmoid(-s_n).sum()
    else:
        expected = (s - torch.cat([s[..., None], s_n], -1).logsumexp(-1)).sum()
    assert torch.allclose(found, size / batch * expected, rtol=1e-12)


def test_softmax_by_hand():
    model = Softmax(nn.Identity(), Table(torch.randn(2, V)), size=60)
    for shape in ((6,), (6, 4)):
        c, w = torch.randint(2, shape), torch.randint(V, shape)
        expected = model.score.theta[c].log_softmax(-1).gather(-1, w[..., None]).sum()
        assert torch.allclose(loss(model, c, w), -10 * expected, rtol=1e-12)


@pytest.mark.parametrize("kind", CONTRASTS)
def test_candidates_that_are_no_data_do_not_count(kind):
    """A masked band of positives is the sum over its positives, each with k noise words."""
    model = program(kind, torch.zeros(1, V), 3, 2)
    scores, noise = torch.randn(2, 4, 4), torch.randn(2, 4, 6)
    band = (torch.rand(2, 4, 4) < 0.5).double()
    place = pyro.plate("rows", 2, dim=-3)
    with poutine.trace() as whole, place:
        model.observe(scores, noise, band)
    expected = 0.0
    for i, j, p in band.nonzero().tolist():
        with poutine.trace() as one, pyro.plate("rows", 1, dim=-3):
            model.observe(scores[i, j, p].reshape(1, 1, 1), noise[i, j].reshape(1, 1, 6))
        expected = expected + one.trace.log_prob_sum()
    assert torch.allclose(whole.trace.log_prob_sum(), expected, rtol=1e-12)


def test_negative_sampling_is_nce_for_k_v_and_uniform_noise_only():
    c, w = torch.zeros(40, dtype=torch.long), torch.randint(V, (40,))
    for q, k, same in ((torch.ones(V), V, True), (torch.ones(V), 5, False), (Q_T, V, False)):
        found = []
        for kind in (NCE, NegativeSampling):
            pyro.set_rng_seed(2)
            model = kind(nn.Identity(), Table(torch.ones(1, V)), Noise(q), k, 40)
            found.append(loss(model, c, w))
        assert torch.allclose(*found, rtol=1e-12) == same


# -- gradients -----------------------------------------------------------------------------------


def test_nce_s_gradient_is_the_analytic_one():
    """∂/∂s: 1 − σ(Δ) of data, −σ(Δ) of noise."""
    k, model = 3, program(NCE, torch.randn(2, V), 3, 40)
    c, w = torch.randint(2, (40,)), torch.randint(V, (40,))
    n = noise_of(model, w, 4)
    pyro.set_rng_seed(4)
    found = -gradient(model, c, w)
    posterior = torch.sigmoid(model.score.theta.detach() - (k * Q_T).log())
    expected = torch.zeros(2, V)
    expected.index_put_((c, w), 1 - posterior[c, w], accumulate=True)
    expected.index_put_((c[:, None].expand_as(n), n), -posterior[c[:, None], n], accumulate=True)
    assert torch.allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("shared", [None, 40])
def test_nce_s_expected_gradient(shared):
    """Σ_w kq/(u + kq) (p̂ − u) ∇s(w) (Mnih & Teh 2012), for k → ∞ maximum likelihood's p̂ − u."""
    k, runs, rows = 5, 400, 100
    theta = P_T.log() + 0.3 * torch.randn(V)
    w = torch.multinomial(P_T, rows, replacement=True)
    if shared:
        model, c = program(NCE, theta[None], k, rows, shared=shared), torch.zeros_like(w)
        each = -torch.stack([gradient(model, c, w)[0] for _ in range(runs)]) / rows
    else:
        model = program(NCE, theta.expand(runs, V), k, rows * runs)
        each = -gradient(model, torch.arange(runs).repeat_interleave(rows), w.repeat(runs)) / rows
    u, p_hat = theta.exp(), w.bincount(minlength=V) / rows
    expected = k * Q_T / (u + k * Q_T) * (p_hat - u)
    error = each.std(0) / runs**0.5
    assert ((each.mean(0) - expected) / error).abs().max() < WORDS
    assert ((each.mean(0) - (p_hat - u)) / error).abs().max() > 1.5 * WORDS  # k = 5 is not ∞
    ratio = 1e8 * Q_T / (u + 1e8 * Q_T)
    assert torch.allclose(ratio * (p_hat - u), p_hat - u, rtol=1e-5)


OPTIMA = {
    NCE: lambda k: P_T.log(),
    NegativeSampling: lambda k: (P_T / (k * Q_T)).log(),
    SampledSoftmax: lambda k: P_T.log() + 3.0,
    InfoNCE: lambda k: (P_T / Q_T).log() - 3.0,
}


@pytest.mark.parametrize("shared", [None, 12])
@pytest.mark.parametrize("kind", CONTRASTS)
def test_each_objective_is_stationary_at_its_own_optimum(kind, shared):
    """In expectation; at that of its neighbour in the module's table, it is seen not to be."""
    k, runs, rows = 5, 400, 200
    across = {NCE: NegativeSampling, NegativeSampling: NCE, SampledSoftmax: InfoNCE}
    for other in (kind, across.get(kind, SampledSoftmax)):
        theta = OPTIMA[other](k)
        if shared:
            model = program(kind, theta[None], k, rows, shared=shared)
            batches = (data(1, rows) for _ in range(runs // 4))
            each = torch.stack([gradient(model, c, w)[0] for c, w in batches])
        else:
            model = program(kind, theta.expand(runs, V), k, runs * rows)
            each = gradient(model, *data(runs, rows))
        each = torch.cat([each, each[:, :25].sum(1, keepdim=True)], 1)  # sees a shift of all
        z = each.mean(0) / each.std(0) * len(each) ** 0.5
        assert z.abs().max() < WORDS if other is kind else z.abs().max() > 1.5 * WORDS


@pytest.mark.parametrize("kind", CONTRASTS)
def test_at_its_optimum_each_predicts_p(kind):
    """softmax(log u) = p; and of both classifiers u is p itself, log Z = 0."""
    model = program(kind, OPTIMA[kind](5)[None], 5, 1)
    log_u = model.log_u(torch.tensor([0]))[0]
    assert torch.allclose(log_u.softmax(-1), P_T, rtol=1e-12)
    if kind in (NCE, NegativeSampling):
        assert abs(log_u.logsumexp(-1)) < 1e-12


# -- what is found -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 25])
def test_the_maximum_is_at_ratios_of_counts(k):
    """u = kq · n_w / m_w, so that G = kq/u = m_w / n_w; negative sampling has e^s = n_w / m_w.

    There the gradient is zero to the last digit, and the objective is concave in s.
    """
    c, w = data(1, 4000)
    n = w.bincount(minlength=V)
    for kind, optimum in ((NCE, lambda m: k * Q_T * n / m), (NegativeSampling, lambda m: n / m)):
        model = program(kind, torch.zeros(1, V), k, len(w))
        m = noise_of(model, w, 5).flatten().bincount(minlength=V)
        model.score.theta.data = optimum(m).log()[None]
        pyro.set_rng_seed(5)
        assert gradient(model, c, w).abs().max() < 1e-9 * len(w)
        pyro.set_rng_seed(6)  # other noise, another optimum
        assert gradient(model, c, w).abs().max() > 1


@pytest.mark.parametrize("k", [1, 5, 25])
def test_the_best_classifier_of_all_data_and_all_noise_has_g_nu_q_over_p(k):
    """From uniform u, by Newton's steps: each word's C is concave in its own logit."""
    model = program(NCE, torch.full((1, V), math.log(1 / V)), k, 1)
    for _ in range(20):
        posterior = model.logit(torch.tensor(0)).sigmoid()
        slope = P_T * (1 - posterior) - k * Q_T * posterior
        curve = (P_T + k * Q_T) * posterior * (1 - posterior)
        model.score.theta.data += slope / curve
    g = (-model.logit(torch.tensor(0))).exp()
    assert torch.allclose(g, k * Q_T / P_T, rtol=1e-12)
    assert torch.allclose(model.log_u(torch.tensor(0)).exp(), P_T, rtol=1e-12)


def replicated(k, n, runs):
    """log n_w / m_w of many samples, n words from p and kn from q: (runs, V)."""
    rng = np.random.default_rng(k)
    counts = rng.multinomial(n, P, size=runs), rng.multinomial(k * n, Q, size=runs)
    return np.subtract(*map(np.log, counts))


def excess(k):
    """2n E KL(p ‖ u/Z) as n → ∞; V − 1 for maximum likelihood (k = ∞)."""
    return V - 1 + (np.sum(P / Q) - np.sum(P**2 / Q)) / k


@pytest.mark.parametrize("k", [1, 5, 25])
def test_nce_recovers_p(k):
    """KL falls as 1/n at its exact rate, seen to 1.3 %; log Z is 0 within its exact error."""
    runs = 4000
    for n in (100_000, 1_000_000):
        log_u = torch.from_numpy(replicated(k, n, runs) + np.log(k * Q))
        assert abs(z_of(2 * n * kl(P_T, log_u).numpy(), excess(k))) < 4
        log_z = log_u.logsumexp(-1).numpy()
        error = np.sqrt((np.sum(P**2 / Q) - 1) / (k * n))
        bias = np.sum(P**2 / Q) / (2 * k * n) + 1 / n  # second order: not larger than this
        assert abs(log_z.mean()) < 4 * error / runs**0.5 + V * bias
        assert abs(log_z.var() / error**2 - 1) < 4 * (2 / runs) ** 0.5
        if n == 1_000_000:
            assert abs(z_of(2 * n * kl(P_T, log_u).numpy(), V - 1)) > 4 or k == 25


@pytest.mark.parametrize("k", [1, 5, 25])
def test_g_tends_to_nu_q_over_p_and_negative_sampling_to_pmi_minus_log_k(k):
    """G = m_w / n_w → k q/p and s = log n_w / m_w → log p/q − log k, with exact errors."""
    runs, n = 400, 1_000_000
    s = replicated(k, n, runs)
    pmi = np.log(P / Q) - np.log(k)
    variance = 1 / (n * P) + 1 / (k * n * Q) - (1 + 1 / k) / n
    z = (s.mean(0) - pmi) / np.sqrt(variance / runs)
    assert np.abs(z).max() < WORDS
    g = np.exp(-s)
    z = (g.mean(0) / (k * Q / P) - 1 - variance / 2) / np.sqrt(variance / runs)
    assert np.abs(z).max() < WORDS
    if k > 1:
        assert np.abs((s.mean(0) - np.log(P / Q)) / np.sqrt(variance / runs)).min() > 10 * WORDS


@pytest.mark.parametrize("k", [1, 5, 25])
def test_the_objective_without_its_log_does_not(k):
    """Σ p σ(Δ) + k Σ q σ(−Δ) ascended from p itself, where the true objective rests."""
    theta = P_T.log().requires_grad_()

    def objective(act):
        delta = theta - (k * Q_T).log()
        return (P_T * act(delta)).sum() + k * (Q_T * act(-delta)).sum()

    assert torch.autograd.grad(objective(F.logsigmoid), theta)[0].abs().max() < 1e-15
    for _ in range(2000):
        step = torch.autograd.grad(objective(torch.sigmoid), theta)[0]
        assert torch.equal(step > 0, P_T > k * Q_T)  # noqa: SIM300  each to 0 or to ∞
        theta = (theta + 10 * step).detach().requires_grad_()
    assert kl(P_T, theta.detach()) > 0.02
    assert theta.detach().logsumexp(0).abs() > 1.5


@pytest.mark.parametrize(("k", "shared"), [(1, None), (5, None), (25, None), (25, 400)])
def test_fit_recovers_p_with_fresh_noise_in_minibatches(k, shared):
    """Noise drawn anew averages out: the words' own frequencies are found, nearer than p is."""
    c, w = data(1, 4000)
    model = program(NCE, torch.full((1, V), -4.0), k, len(w), shared=shared)
    trained(model, c, w, learning_rate=0.1, steps=200, batch_size=500)
    found = model.score.theta.detach()[0]
    frequencies = w.bincount(minlength=V) / len(w)
    drift = model.log_u(torch.tensor(0)).logsumexp(-1)
    assert kl(frequencies, found) < kl(frequencies, P_T.log()) / 2
    assert kl(P_T, found) < 2 * kl(P_T, frequencies.log())
    assert abs(drift) < 0.1


def trained(model, c, w, learning_rate, steps, batch_size=None):
    fit(
        model,
        Empty(),
        {"c": c, "w": w},
        optimizer=lambda p: torch.optim.Adam(p, lr=learning_rate),
        schedule=lambda progress: (1 - progress) ** 2,
        steps=steps,
        batch_size=batch_size,
        precision="float64",
        progress=False,
    )


def test_a_learned_normaliser():
    """Of scores e³ p log Z = 3 is found; its standard error is below 1e-3, 5e-4 from the data."""
    c, w = data(1, 4000)

    class Known(nn.Module):
        def forward(self, h, words):
            return P_T.log()[words] + 3.0

    model = NCE(nn.Identity(), Known(), Noise(Q_T), 25, len(w), log_z=2.5, learn_log_z=True)
    trained(model, c, w, learning_rate=0.1, steps=150)
    assert abs(float(model.log_z.detach()) - 3) < 5e-3


def test_a_fixed_normaliser_stays():
    c, w = data(1, 100)
    model = program(NCE, torch.zeros(1, V), 5, len(w), log_z=1.0)
    trained(model, c, w, learning_rate=0.1, steps=3)
    assert model.log_z == 1.0
    assert not torch.equal(model.score.theta[0], torch.zeros(V))


class Exponential(nn.Module):
    """s(w | c) = θ_c · f(w), the last f being 1: its θ is −log Z, to be found with the rest."""

    def __init__(self, theta, features):
        super().__init__()
        self.theta, self.features = nn.Parameter(theta.clone()), features

    def forward(self, h, words=None):
        return (self.features[words] * self.theta[h][..., None, :]).sum(-1)


def covariance(features, theta, k):
    """n Cov θ̂ as n → ∞: Gutmann & Hyvärinen 2012, theorem 3; for k = ∞ Fisher's, log Z known."""
    p = (features @ theta).exp()
    if k == np.inf:
        centred = features[:, :-1] - p @ features[:, :-1]
        return torch.linalg.inv(centred.T @ (p[:, None] * centred))
    share = k * Q_T / (p + k * Q_T)
    inverse = torch.linalg.inv(features.T @ ((p * share)[:, None] * features))
    drift = inverse @ (features.T @ (p * share))
    return inverse - (1 + 1 / k) * torch.outer(drift, drift)


def fitted(model, c, w):
    """Every context's θ at the maximum, for noise drawn once."""
    optimizer = torch.optim.LBFGS(
        [model.score.theta], max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-9
    )

    def closure():
        pyro.set_rng_seed(5)
        optimizer.zero_grad()
        cost = loss(model, c, w) / 100
        cost.backward()
        return cost

    optimizer.step(closure)
    return model.score.theta.detach()


@pytest.mark.slow
def test_nce_approaches_maximum_likelihood_as_k_grows():
    """Errors of two parameters of an exponential family, 1,000 trainings on 400 words each.

    n MSE is the theorem's to 4 standard errors of 3 %, and k = 10 is nearer to Fisher's than k = 1.
    """
    runs, n = 1000, 400
    features = torch.cat([torch.randn(V, 2), torch.ones(V, 1)], 1)
    theta = torch.tensor([0.5, -0.3, 0.0])
    theta[-1] = -(features @ theta).logsumexp(0)
    w = Noise((features @ theta).exp()).sample(runs, n).flatten()
    c = torch.arange(runs).repeat_interleave(n)
    best = covariance(features, theta, np.inf).trace()
    efficiency = {}
    for k in (1, 3, 10):
        score = Exponential(theta.expand(runs, 3), features)
        model = NCE(nn.Identity(), score, Noise(Q_T), k, len(w))
        errors = n * ((fitted(model, c, w) - theta)[:, :2] ** 2).sum(1)
        expected = covariance(features, theta, k)[:2, :2].trace()
        assert abs(z_of(errors.numpy(), float(expected))) < 4
        efficiency[k] = [float(best / x) for x in (errors.mean(), expected)]
        print(k, efficiency[k], float(errors.std() / errors.mean() / runs**0.5))
    assert efficiency[1][0] < efficiency[3][0] < efficiency[10][0] < 1.1
    assert covariance(features, theta, 1e6)[:2, :2].trace() == pytest.approx(float(best), rel=1e-4)
