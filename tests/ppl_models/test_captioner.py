"""Show, attend and tell: its bound and gradient are the paper's, by hand and by enumeration."""

import itertools

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

from guides.caption_aware import CaptionAware
from guides.empty import Empty
from guides.prior import Prior
from inference import audit
from inference.engine.program.program import Program
from inference.estimators import (
    REBAR,
    VIMCO,
    Exact,
    GumbelSoftmax,
    LeaveOneOut,
    MovingAverage,
    ScoreFunction,
    exact,
)
from inference.results.evaluate import exact_evidence
from inference.util.errors import UserError
from ppl_models.captioner import END, Captioner, HardAttention, SoftAttention, alive, previous

B, L, D, V, T = 4, 3, 5, 6, 3
A = torch.randn(B, L, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([[2, 3, END], [4, END, END], [END, END, END], [5, 5, 1]])
LOOKS = list(itertools.product(range(L), repeat=T))


def hard(guide=Prior, **options):
    torch.manual_seed(0)
    captioner = Captioner(D, V, embedding=4, hidden=3, attention=4, dropout=0.0)
    with torch.no_grad():
        for parameter in captioner.parameters():
            parameter.mul_(3)  # decided looks and words
    model = HardAttention(captioner, B, **{"entropy": 0.0, "expected": 0.0} | options)
    if guide is Prior:
        return model, Prior(model)
    aware = CaptionAware(captioner, B, width=3)
    torch.nn.init.normal_(aware.tilt.weight)
    return model, aware


def by_hand(captioner, places):
    """(log p(s | a), log p(y | s, a)) of one row's looks at ``places``, each (B,), masked."""
    n, said, real = captioner, previous(Y), alive(Y).double()
    state, looks, words = n.start(A), 0.0, 0.0
    for t, place in enumerate(places):
        log_alpha = n.look(n.key(A), state).log_softmax(-1)
        z = torch.sigmoid(n.gate(state.h)) * A[:, place]
        state = n.step(said[:, t], z, state)
        log_words = n.speak(said[:, t], z, state).log_softmax(-1)
        looks = looks + real[:, t] * log_alpha[:, place]
        words = words + real[:, t] * log_words.gather(1, Y[:, t, None])[:, 0]
    return looks, words


def paths(captioner):
    """Log-probabilities (paths, B) of looks and words, and whether a path is a caption's own.

    Looks after a caption's END do not count: of the paths that differ there alone, one is kept.
    """
    found = [by_hand(captioner, places) for places in LOOKS]
    looks, words = (torch.stack(part) for part in zip(*found, strict=True))
    after = ~alive(Y)[None] & (torch.tensor(LOOKS)[:, None] != 0)
    return looks, words, ~after.any(-1)


def gradients(loss, captioner):
    return torch.autograd.grad(loss, list(captioner.parameters()), allow_unused=True)


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_the_bound_is_the_paper_s_and_its_gradient_has_both_terms():
    """∂L_s/∂W = Σ_s p(s|a) [∂log p(y|s,a)/∂W + log p(y|s,a) ∂log p(s|a)/∂W]: equation 11."""
    model, guide = hard()
    looks, words, own = paths(model.captioner)
    p = (looks.exp() * own).detach()
    both = (p * (words + words.detach() * looks)).sum()
    expected = [-g for g in gradients(both, model.captioner)]
    loss = Exact(max_plate_nesting=1).differentiable_loss(model, guide, A, Y)
    assert torch.allclose(loss, -(p * words).sum(), rtol=1e-12)
    same(gradients(loss, model.captioner), expected)
    assert torch.allclose(p.sum(0), torch.ones(B), rtol=1e-12)


def test_the_evidence_is_the_sum_over_looks_and_above_the_bounds():
    """L_s ≤ log p(y | a), and so is the bound of a guide that knows the caption."""
    for kind in (Prior, CaptionAware):
        model, guide = hard(kind)
        looks, words, own = paths(model.captioner)
        by_hand = (looks + words).masked_fill(~own, -torch.inf).logsumexp(0)
        program = Program(model, guide)
        with program.scope():
            program.initialise({"a": A, "y": Y}, B)
        evidence = exact_evidence(program, {"a": A, "y": Y})
        assert torch.allclose(evidence, by_hand, rtol=1e-10)
        bound = -Exact(max_plate_nesting=1).differentiable_loss(model, guide, A, Y)
        assert evidence.sum() - bound > 0.01


def test_a_caption_too_long_to_enumerate_is_refused_before_memory_is_full(monkeypatch):
    monkeypatch.setattr(exact, "LARGEST", 10_000)
    captioner = Captioner(D, V, embedding=4, hidden=3, attention=4, dropout=0.0)
    model = HardAttention(captioner, B, entropy=0.0, expected=0.0)
    a, y = torch.randn(B, 16, D), torch.ones(B, 20, dtype=torch.int64)
    program = Program(model, Prior(model))
    with program.scope():
        program.initialise({"a": a, "y": y}, B)
    with pytest.raises(UserError, match="at site 's_3' has 65,536 entries: give fewer rows"):
        exact_evidence(program, {"a": a, "y": y})
    with pytest.raises(UserError, match="at site 's_2' has 16,384 entries: give fewer rows"):
        Exact(max_plate_nesting=1).loss(model, Prior(model), a, y)


def linear(layer, x):
    return x @ layer.weight.T + (0 if layer.bias is None else layer.bias)


def test_the_networks_by_hand():
    """Equations 4, 5 and 7, and torch's own LSTM cell for 1 to 3 (its gates: i, f, g, o)."""
    torch.manual_seed(0)
    n = Captioner(D, V, embedding=4, hidden=3, attention=2, dropout=0.0)
    word, state = Y[:, 0], n.start(A)
    mean = A.sum(1) / L
    for found, layer in ((state.h, n.first_h), (state.c, n.first_c)):
        assert torch.allclose(found, linear(layer, mean).tanh(), rtol=1e-12)
    keys = linear(n.key, A)
    looks = linear(n.score, (keys + linear(n.query, state.h)[:, None]).tanh())[..., 0]
    assert torch.allclose(n.look(n.key(A), state), looks, rtol=1e-12)
    where = looks.softmax(-1)
    seen = linear(n.gate, state.h).sigmoid() * torch.einsum("bl,bld->bd", where, A)
    z = n.context(where, A, state)
    assert torch.allclose(z, seen, rtol=1e-12)

    cell, order = torch.nn.LSTMCell(4 + D, 3), [0, 1, 3, 2]
    with torch.no_grad():
        for of_torch, ours in (
            (cell.weight_ih, torch.cat([n.word_in.weight, n.look_in.weight], 1)),
            (cell.weight_hh, n.state_in.weight),
            (cell.bias_ih, n.word_in.bias),
        ):
            of_torch.copy_(torch.cat([ours.chunk(4)[gate] for gate in order]))
        cell.bias_hh.zero_()
    spoken = n.embed.weight[word]
    expected = cell(torch.cat([spoken, z], -1), (state.h, state.c))
    after = n.step(word, z, state)
    for found, of_torch in zip(after, expected, strict=True):
        assert torch.allclose(found, of_torch, rtol=1e-12)
    deep = spoken + linear(n.state_out, after.h) + linear(n.look_out, z)
    assert torch.allclose(n.speak(word, z, after), linear(n.say, deep.tanh()), rtol=1e-12)


@pytest.mark.parametrize(
    ("pyros", "words", "entropy"), [(Trace_ELBO, 1, 0.0), (TraceGraph_ELBO, T, 0.01)]
)
def test_gradients_equal_pyro_s_under_the_same_seed(pyros, words, entropy):
    """The prior's two runs as one draw the same looks, and give the same numbers but ∇log p(s).

    That has mean zero; Pyro, which does not know that the guide is the prior, keeps it.
    Trace_ELBO charges a look with what came before it, too: one word leaves nothing of that.
    """
    model, guide = hard(entropy=entropy, expected=0.5)
    y = Y[:, :words].clone()
    y[:, -1] = END
    found = []
    for estimator in (ours := ScoreFunction(), pyros()):
        pyro.set_rng_seed(3)
        model.zero_grad()
        estimator.loss_and_grads(model, guide, A, y)
        if estimator is not ours:
            pyro.set_rng_seed(3)
            log_prior_of_draws(model, A, y).backward()
        found.append([p.grad.clone() for p in model.captioner.parameters()])
    same(*found)


def log_prior_of_draws(model, *columns):
    trace = poutine.trace(model).get_trace(*columns)
    trace.compute_log_prob()
    latents = [trace.nodes[name] for name in trace.stochastic_nodes if name.startswith("s_")]
    return sum(site["log_prob_sum"] for site in latents)


ESTIMATORS = {
    "score": ScoreFunction(),
    "average": ScoreFunction(baseline=MovingAverage()),
    "leave-one-out": LeaveOneOut(2, vectorize_particles=True, max_plate_nesting=1),
    "VIMCO": VIMCO(2, vectorize_particles=True, max_plate_nesting=1),
    "REBAR": REBAR(),
    "Gumbel-softmax": GumbelSoftmax(temperature=1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Prior, CaptionAware])
def test_every_estimator_is_unbiased_but_gumbel_softmax(kind):
    """Against enumeration at a family-wise error of 1e-3; what is not seen is stated, too."""
    model, guide = hard(kind)
    data = {"a": A, "y": Y}
    found = audit(model, guide, data, ESTIMATORS, samples=4000, precision="float64", progress=False)
    rows = {row.name: row for row in found.rows}
    assert [name for name, row in rows.items() if row.biased] == ["Gumbel-softmax"]
    assert rows["leave-one-out"].resolution < 0.1
    assert rows["leave-one-out"].variance < rows["score"].variance / 10
    print(
        {name: (row.worst_z, row.critical, row.bias, row.resolution) for name, row in rows.items()}
    )


def test_soft_attention_s_words_and_penalty_by_hand():
    torch.manual_seed(0)
    n = Captioner(D, V, embedding=4, hidden=3, attention=4, dropout=0.0)
    model, said, real = SoftAttention(n, B, penalty=0.7), previous(Y), alive(Y).double()
    state, looked, expected = n.start(A), 0.0, 0.0
    for t in range(T):
        alpha = n.look(n.key(A), state).softmax(-1)
        z = torch.sigmoid(n.gate(state.h)) * torch.einsum("bl,bld->bd", alpha, A)
        state = n.step(said[:, t], z, state)
        log_words = n.speak(said[:, t], z, state).log_softmax(-1)
        expected = expected + real[:, t] * log_words.gather(1, Y[:, t, None])[:, 0]
        looked = looked + real[:, t, None] * alpha
    penalty = -0.7 * ((1 - looked) ** 2).sum()
    for training, bound in ((False, expected.sum()), (True, expected.sum() + penalty)):
        trace = poutine.trace(model.train(training)).get_trace(A, Y)
        assert torch.allclose(trace.log_prob_sum(), bound, rtol=1e-12)
    assert ScoreFunction().loss(model.eval(), Empty(), A, Y) == pytest.approx(
        -float(expected.detach().sum())
    )


def test_the_entropy_bonus_is_of_each_real_look_in_training():
    """λ H[α_t] at each word of a caption, nothing after its END."""
    model, _ = hard(entropy=0.3, expected=0.0)
    trace = poutine.trace(model.train()).get_trace(A, Y)
    real, looks = alive(Y).double(), []
    n, state = model.captioner, model.captioner.start(A)
    for t in range(T):
        p = n.look(n.key(A), state).softmax(-1)
        found = trace.nodes[f"entropy_{t}"]["fn"].log_factor
        assert torch.allclose(found, 0.3 * real[:, t] * -(p * p.log()).sum(-1), rtol=1e-12)
        looks.append(trace.nodes[f"s_{t}"]["value"])
        z = n.context(looks[-1], A, state)
        state = n.step(previous(Y)[:, t], z, state)
    assert not any(
        name.startswith("entropy") for name in poutine.trace(model.eval()).get_trace(A, Y)
    )


def test_captions_whose_looks_are_expected_are_soft_attention_s():
    """All of them: the same words' log-probability.  Of a quarter, three quarters are looked at."""
    model, _ = hard(entropy=0.0, expected=1.0)
    trace = poutine.trace(model.train()).get_trace(A, Y)
    trace.compute_log_prob()
    found = sum(trace.nodes[f"y_{t}"]["log_prob"] for t in range(T))
    soft = poutine.trace(SoftAttention(model.captioner, B, penalty=0.0)).get_trace(A, Y)
    soft.compute_log_prob()
    assert torch.allclose(found, soft.nodes["y"]["log_prob"], rtol=1e-12)
    for t in range(T):  # and no score: all locations are alike
        assert torch.allclose(trace.nodes[f"s_{t}"]["fn"].probs, torch.full((B, L), 1 / L))
    some, _ = hard(entropy=0.0, expected=0.25)
    looking = poutine.trace(some.train()).get_trace(A, Y).nodes["looking"]["fn"]
    assert torch.allclose(looking.probs, torch.full_like(looking.probs, 0.75))
    assert "looking" not in poutine.trace(some.eval()).get_trace(A, Y)
