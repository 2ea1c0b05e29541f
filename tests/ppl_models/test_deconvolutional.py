"""The deconvolutional model against the sum over every unpooling: linear given z, so exact."""

import itertools

import pyro
import pytest
import torch
from pyro import poutine
from torch.distributions import MultivariateNormal, kl_divergence

from guides.deconvolutional import Convolutional
from inference.engine.program.copies import reset_modules
from inference.engine.program.program import Program
from inference.estimators import REBAR, GumbelSoftmax, LeaveOneOut, MovingAverage, ScoreFunction
from inference.results.evaluate import importance_weighted_bound
from ppl_models.deconvolutional import Deconvolutional, Layer, levels
from ppl_models.label_heads import NO_LABEL, Softmax
from ppl_models.support_vector import Hinge

B, IMAGE = 3, (1, 6, 6)
LAYERS = [Layer(2, 3, 2), Layer(2, 2)]  # 6 → 4, blocks of 2 → 2, → 1; eight blocks of four
generator = torch.Generator().manual_seed(3)
X = torch.rand(B, *IMAGE, generator=generator, dtype=torch.double)
Y = torch.tensor([1, NO_LABEL, 0])
SMALL = [Layer(2, 3, 4), Layer(2, 1)]  # 6 → 4, one block of 16 a map: 256 assignments


def programs(layers=SMALL, size=B, head=None, weight=1.0):
    torch.manual_seed(0)
    shapes = levels(IMAGE, layers)
    model = Deconvolutional(shapes, size, head and head(2, 3), weight).double()
    guide = Convolutional(model, hidden=3).double()
    with torch.no_grad():
        model.log_precision.fill_(1.0)
        for dictionary in model.dictionaries:
            dictionary.mul_(3)
    return model, guide


def assignments():
    """(256, 2, 1, 1, 16): every z."""
    eye = torch.eye(16, dtype=torch.double)
    return torch.stack([eye[list(pair)] for pair in itertools.product(range(16), repeat=2)])[
        :, :, None, None
    ]


def decoded(model, z):
    """(256, 36, D) W_z: the image of each unit of s, under every z."""
    units = torch.eye(2, dtype=torch.double)
    with poutine.block():
        program = poutine.condition(model.decode, {"z_1": z[:, None]})
        return program(units).flatten(-3).mT


def evidence(model):
    """(B,) log p(X) = log Σ_z p(z) N(X; 0, W_z W_zᵀ + I/α₀)."""
    w = decoded(model, assignments())
    noise = (-model.log_precision).exp() * torch.eye(36, dtype=torch.double)
    p = MultivariateNormal(torch.zeros(36, dtype=torch.double), w @ w.mT + noise)
    return (p.log_prob(X.flatten(1)[:, None]) - torch.tensor(256.0).log()).logsumexp(-1)


def bound(model, guide):
    """(B,) the ELBO, z summed over, s integrated: E|X − Ws|² = |X − Wm|² + tr(W V Wᵀ)."""
    z = assignments()
    q = poutine.trace(poutine.condition(guide, {"z_1": z[:, None].expand(-1, B, -1, -1, -1, -1)}))
    sites = q.get_trace(X).nodes
    log_q, code = sites["z_1"]["fn"].log_prob(z[:, None]), sites["s"]["fn"].base_dist
    w, x = decoded(model, z), X.flatten(1)
    left = x - (w[:, None] @ code.mean[..., None])[..., 0]
    spread = (w.square()[:, None] @ code.variance[..., None])[..., 0]
    log_x = torch.distributions.Normal(0.0, (-model.log_precision / 2).exp()).log_prob(left)
    log_x = (log_x - model.log_precision.exp() * spread / 2).sum(-1)
    prior = torch.distributions.Normal(torch.zeros(2, dtype=torch.double), 1.0)
    kl = kl_divergence(code, prior).sum(-1)
    each = log_x - kl - torch.tensor(256.0, dtype=torch.double).log() - log_q
    return (log_q.exp() * each).sum(0)


def test_k_sample_bounds_rise_from_the_elbo_to_the_evidence():
    model, guide = programs()
    exact, elbo = evidence(model), bound(model, guide)
    assert bool((elbo < exact - 0.05).all())
    copies = 500
    large = Deconvolutional(model.levels, B * copies).double()
    large.load_state_dict(model.state_dict())
    its = Convolutional(large, hidden=3).double()
    its.encoder.load_state_dict(guide.encoder.state_dict())
    pyro.set_rng_seed(0)
    data = {"x": X.repeat(copies, 1, 1, 1)}
    found = {
        k: importance_weighted_bound(Program(large, its), data, k, progress=False)
        .double()
        .reshape(copies, B)
        for k in (1, 5, 50)
    }
    error = {k: v.std(0) / copies**0.5 for k, v in found.items()}
    mean = {k: v.mean(0) for k, v in found.items()}
    assert bool(((mean[1] - elbo).abs() < 4.5 * error[1]).all())
    assert bool((mean[1] < mean[5]).all())
    assert bool((mean[5] < mean[50]).all())
    assert bool((mean[50] < exact + 4.5 * error[50]).all())
    assert bool((exact - mean[50] < 0.35 * (exact - elbo)).all())


def worst_z(estimator, batches=50, copies=40):
    """Largest |z| of the mean gradient against the bound's, over all parameters."""
    model, guide = programs()
    parameters = [*model.parameters(), *guide.encoder.parameters()]
    exact = torch.autograd.grad(
        -bound(model, guide).sum(), parameters, allow_unused=True, materialize_grads=True
    )
    x, found = X.repeat(copies, 1, 1, 1), []
    model.size = B * copies
    for _ in range(batches):
        loss = estimator.differentiable_loss(model, guide, x) / copies
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        found.append(torch.cat([g.flatten() for g in slopes]))
    samples, truth = torch.stack(found), torch.cat([g.flatten() for g in exact])
    spread = samples.std(0) / batches**0.5 + 1e-6 * truth.abs().max()
    return float(((samples.mean(0) - truth) / spread).abs().max())


CRITICAL = 6.5  # Student's t of 49 degrees, some 1,200 parameters, five tests: below 10⁻⁴


@pytest.mark.parametrize(
    "estimator",
    [
        ScoreFunction(1, baseline=MovingAverage(), max_plate_nesting=1),
        LeaveOneOut(2, vectorize_particles=True, max_plate_nesting=1),
        LeaveOneOut(4, vectorize_particles=True, max_plate_nesting=1),
        REBAR(1, max_plate_nesting=1),
    ],
    ids=["average", "leave-one-out-2", "leave-one-out-4", "REBAR"],
)
def test_estimators_have_the_gradient_of_the_sum(estimator):
    pyro.set_rng_seed(1)
    assert worst_z(estimator) < CRITICAL


def test_a_biased_estimator_is_caught():
    pyro.set_rng_seed(1)
    assert worst_z(GumbelSoftmax(2, max_plate_nesting=1)) > 2 * CRITICAL


@pytest.mark.parametrize("head", [Softmax, Hinge])
def test_a_label_counts_where_there_is_one_and_by_its_weight(head):
    model, guide = programs(head=head, weight=7.0)
    pyro.set_rng_seed(0)
    draws = poutine.trace(guide).get_trace(X, Y)
    trace = poutine.trace(poutine.replay(model, trace=draws)).get_trace(X, Y)
    trace.compute_log_prob()
    found = trace.nodes["y"]["log_prob"]
    s, known = draws.nodes["s"]["value"], Y != NO_LABEL
    score = model.head.score(s)
    if head is Softmax:
        expected = score.log_softmax(-1)[torch.arange(B), Y.clamp(min=0)]
    else:
        signs = 2 * torch.nn.functional.one_hot(Y.clamp(min=0), 3) - 1
        expected = -2 * (1 - signs * score).relu().sum(-1)
    torch.testing.assert_close(found, 7 * expected * known)


def test_a_row_shown_twice_at_half_its_share_counts_once():
    model, guide = programs(head=Softmax, weight=7.0)
    pyro.set_rng_seed(0)
    draws = poutine.trace(guide).get_trace(X, Y)
    values = {n: draws.nodes[n]["value"] for n in ("s", "z_1")}
    once = difference(model, guide, values, X, Y)
    again, model.size = torch.tensor([0, 0, 1, 2]), 4
    share = torch.tensor([0.5, 0.5, 1.0, 1.0])
    twice = difference(
        model, guide, {n: v[again] for n, v in values.items()}, X[again], Y[again], share
    )
    torch.testing.assert_close(once, twice)


def difference(model, guide, values, *columns):
    """log p − log q of these draws."""
    log_p, log_q = (
        poutine.trace(poutine.condition(program, values)).get_trace(*columns).log_prob_sum()
        for program in (model, guide)
    )
    return log_p - log_q


def test_the_decoder_puts_things_where_the_encoder_found_them():
    """A draw's images are zero except where z lets the top reach."""
    model, guide = programs(LAYERS)
    pyro.set_rng_seed(0)
    draws = poutine.trace(guide).get_trace(X)
    mean = poutine.replay(model, trace=draws)(X)
    z = draws.nodes["z_1"]["value"]  # (B, 2, 2, 2, 4)
    reached = torch.zeros(B, 6, 6, dtype=torch.bool)
    for b, k, r, c in itertools.product(range(B), range(2), range(2), range(2)):
        i, j = divmod(int(z[b, k, r, c].argmax()), 2)
        reached[b, 2 * r + i : 2 * r + i + 3, 2 * c + j : 2 * c + j + 3] = True
    assert bool((mean[:, 0] != 0)[~reached].logical_not().all())
    assert bool((mean[:, 0] != 0)[reached].all())


def test_draws_together_are_draws_one_by_one():
    model, guide = programs(LAYERS)
    pyro.set_rng_seed(0)
    with pyro.plate("draws", 5, dim=-2):
        together = poutine.trace(guide).get_trace(X)
        means = poutine.replay(model, trace=together)(X)
    for k in range(5):
        values = {n: together.nodes[n]["value"][k] for n in ("s", "z_1")}
        alone = poutine.trace(poutine.condition(guide, {"z_1": values["z_1"]})).get_trace(X)
        torch.testing.assert_close(
            alone.nodes["s"]["fn"].base_dist.loc, together.nodes["s"]["fn"].base_dist.loc[k]
        )
        torch.testing.assert_close(poutine.condition(model, values)(X), means[k])


def test_another_seed_draws_every_weight_anew():
    model, guide = programs()
    parts = dict([*model.named_parameters(), *guide.encoder.named_parameters()])
    before = {name: part.detach().clone() for name, part in parts.items()}
    reset_modules(Program(model, guide))
    for name, part in parts.items():
        constant = part.dim() == 0 or bool((part == 0).all()) or name.startswith("where.")
        assert constant or not bool((part == before[name]).any())


def test_at_first_places_are_chosen_where_a_feature_is_strong_by_every_seed():
    model, guide = programs()
    cells = 3 * torch.randn(B, 2, 1, 1, 16, generator=generator, dtype=torch.double)
    with torch.no_grad():
        for part in guide.encoder.where.parameters():
            part.zero_()
        reset_modules(Program(model, guide))
        logits = guide.encoder.choose(1, cells).base_dist.logits
    torch.testing.assert_close(logits, (4 * cells.tanh()).log_softmax(-1))


MNIST = [Layer(30, 8, 3), Layer(80, 6)]
CIFAR = [Layer(48, 5, 2), Layer(128, 5, 2), Layer(128, 5)]
IMAGENET = [Layer(96, 5, 4), Layer(256, 5, 2), Layer(512, 5, 2), Layer(1024, 5, 2), Layer(512, 5)]
CALTECH = [Layer(48, 7, 4), Layer(84, 5, 2), Layer(84, 5)]


@pytest.mark.parametrize(
    ("image", "layers", "same", "top"),
    [
        ((1, 28, 28), MNIST, False, (80, 2, 2)),
        ((3, 32, 32), CIFAR, True, (128, 8, 8)),
        ((3, 128, 128), CALTECH, True, (84, 16, 16)),
        ((3, 256, 256), IMAGENET, True, (512, 8, 8)),
    ],
    ids=["mnist", "cifar", "caltech", "imagenet"],
)
def test_the_papers_architectures_have_their_shapes(image, layers, same, top):
    found = levels(image, layers, same)
    assert tuple(found[-1].pooled) == top
    if image[1] == 28:
        assert found[0].pooled.numel() == 1470  # blocks of nine


@pytest.mark.parametrize(
    ("layers", "same", "words"),
    [
        ([Layer(4, 8, 2)], False, "layer 1: maps of 21 × 21 do not divide into blocks of 2 × 2"),
        ([Layer(4, 8, 3), Layer(4, 8)], False, "layer 2: 8 is more than 7 × 7"),
        ([Layer(4, 4)], True, "layer 1: a kernel of 4 has no middle"),
    ],
)
def test_layers_that_do_not_fit_are_named(layers, same, words):
    with pytest.raises(ValueError, match=words):
        levels((1, 28, 28), layers, same)
