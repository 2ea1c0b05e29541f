"""Programs of unusual shape, against enumeration by hand or the same program written plainly."""

import contextlib
import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoNormal, AutoNormalMessenger

from guides.empty import Empty
from inference import UserError, fit
from inference.estimators import (
    IWAE,
    REBAR,
    RELAX,
    VIMCO,
    DisARM,
    DReG,
    Exact,
    GumbelSoftmax,
    LeaveOneOut,
    Pathwise,
    ReweightedWakeSleep,
    ScoreFunction,
    Wrapped,
)
from tests.support.catalogue import X
from tests.support.estimators import Bump
from tests.support.examples import local

UNBIASED = {
    "ScoreFunction": ScoreFunction,
    "LeaveOneOut": lambda: LeaveOneOut(2),
    "DisARM": DisARM,
    "REBAR": lambda: REBAR(temperature=0.7),
    "RELAX": lambda: RELAX(Bump()),
}
COPIES = 60_000


def copies(dim):
    return pyro.plate("copies", COPIES, dim=dim)


class TermOutside:
    """Two bits in a plate, and after it a term of both: log p(y | b_1 + b_2)."""

    @staticmethod
    def model(w):
        with copies(-2):
            with pyro.plate("d", 2, dim=-1):
                b = pyro.sample("b", dist.Bernoulli(0.3))
            total = b.sum(-1, keepdim=True)
            pyro.sample("y", dist.Normal(total, 0.5), obs=torch.tensor(1.7))

    @staticmethod
    def guide(w):
        with copies(-2), pyro.plate("d", 2, dim=-1):
            pyro.sample("b", dist.Bernoulli(logits=w))

    @staticmethod
    def cost(bits, w):
        """(−log p(b, y) + log q(b), log q) of each pair of bits (4, 2)."""
        q = dist.Bernoulli(logits=w).log_prob(bits).sum(-1)
        p = dist.Bernoulli(0.3).log_prob(bits).sum(-1)
        return q - p - dist.Normal(bits.sum(-1), 0.5).log_prob(torch.tensor(1.7)), q


class PlateEnteredAgain:
    """Two bits in a plate, one outside that depends on both, then terms of it in the plate."""

    X = (2.0, -1.0)

    @classmethod
    def model(cls, w):
        with copies(-2):
            plate = pyro.plate("d", 2, dim=-1)
            with plate:
                b = pyro.sample("b", dist.Bernoulli(0.3))
            g = pyro.sample("g", dist.Bernoulli(logits=3 * b.sum(-1, keepdim=True) - 2))
            with plate:
                pyro.sample("x", dist.Normal(2 * g, 0.5), obs=torch.tensor(cls.X))

    @staticmethod
    def guide(w):
        with copies(-2):
            with pyro.plate("d", 2, dim=-1):
                b = pyro.sample("b", dist.Bernoulli(logits=w))
            pyro.sample("g", dist.Bernoulli(logits=3 * b.sum(-1, keepdim=True) - 2))

    @classmethod
    def cost(cls, bits, w):
        """Summed over g, for which guide and model agree."""
        q = dist.Bernoulli(logits=w).log_prob(bits).sum(-1)
        p = dist.Bernoulli(0.3).log_prob(bits).sum(-1)
        one = torch.sigmoid(3 * bits.sum(-1) - 2)
        x = [dist.Normal(2.0 * g, 0.5).log_prob(torch.tensor(cls.X)).sum() for g in (0, 1)]
        return q - p - (1 - one) * x[0] - one * x[1], q


@pytest.mark.parametrize("program", [TermOutside, PlateEnteredAgain])
@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_by_hand(program, name):
    """z-tests at 1e-4 over all; a bias of 10 % of the norm would be seen."""
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)))
    w = torch.tensor([0.5, -0.3], requires_grad=True)
    cost, q = program.cost(bits, w)
    (expected,) = torch.autograd.grad((q.exp() * cost).sum(), w)
    each = w.detach().expand(COPIES, 2).clone().requires_grad_()
    pyro.set_rng_seed(0)
    found = []
    for _ in range(3):
        loss = UNBIASED[name]().differentiable_loss(program.model, program.guide, each)
        found.append(torch.autograd.grad(loss, each)[0])
    sample = torch.cat(found)
    error = sample.std(0) / len(sample) ** 0.5
    assert ((sample.mean(0) - expected) / error).abs().max() < 4.6
    assert (error * 6.3).max() < 0.10 * expected.norm()


def test_a_term_outside_couples_its_plate():
    """The pair's bound log ½(w_1 + w_2) has the weights of both bits and the term together."""
    w = torch.tensor([0.5, -0.3], requires_grad=True)
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)))
    cost, q = TermOutside.cost(bits, w)
    pair = torch.logaddexp(-cost[:, None], -cost[None]) - math.log(2)
    loss = -((q[:, None] + q[None]).exp() * pair).sum()
    (expected,) = torch.autograd.grad(loss, w)
    each = w.detach().expand(COPIES, 2).clone().requires_grad_()
    found = VIMCO(2).differentiable_loss(TermOutside.model, TermOutside.guide, each)
    (sample,) = torch.autograd.grad(found, each)
    error = sample.std(0) / COPIES**0.5
    assert ((sample.mean(0) - expected) / error).abs().max() < 4.6
    assert (error * 6.3).max() < 0.10 * expected.norm()


def two_data_sets(which="ab"):
    """A batch of labelled and one of unlabelled data, each of a larger set, that share weights."""
    w = torch.tensor([0.4, -0.3], requires_grad=True)

    def model():
        for name, size, x in (("a", 12, X[:2]), ("b", 30, X)):
            if name in which:
                with pyro.plate(f"set {name}", size, subsample=torch.arange(len(x))):
                    z = pyro.sample(f"z {name}", dist.Bernoulli(logits=w[0]))
                    pyro.sample(f"x {name}", dist.Normal(z, 0.5), obs=x)

    def guide():
        for name, size, x in (("a", 12, X[:2]), ("b", 30, X)):
            if name in which:
                with pyro.plate(f"set {name}", size, subsample=torch.arange(len(x))):
                    pyro.sample(f"z {name}", dist.Bernoulli(logits=w[1] * x))

    return model, guide, w


@pytest.mark.parametrize("kind", [VIMCO, ReweightedWakeSleep])
def test_two_data_sets_have_the_bounds_of_each(kind):
    """Loss and gradient are sums over the sets, each scaled to its own size: equal to rounding."""
    estimator = kind(3, vectorize_particles=True, max_plate_nesting=1)

    def results(*programs):
        pyro.set_rng_seed(4)
        losses = [(estimator.differentiable_loss(model, guide), w) for model, guide, w in programs]
        gradients = [torch.autograd.grad(loss, w)[0] for loss, w in losses]
        return torch.cat([sum(loss for loss, _ in losses).detach()[None], sum(gradients)])

    together, apart = results(two_data_sets()), results(two_data_sets("a"), two_data_sets("b"))
    assert torch.allclose(together, apart, rtol=1e-12)
    assert together[1:].abs().min() > 1e-3


def bare_model(w):
    b = pyro.sample("b", dist.Bernoulli(0.3))
    pyro.sample("x", dist.Normal(b, 1.0), obs=torch.tensor(1.0))


def bare_guide(w):
    pyro.sample("b", dist.Bernoulli(logits=w))


@pytest.mark.parametrize(
    "estimator",
    [
        ScoreFunction(),
        LeaveOneOut(2),
        LeaveOneOut(2, vectorize_particles=True, max_plate_nesting=0),
        DisARM(),
        REBAR(),
        GumbelSoftmax(),
        VIMCO(2),
        ReweightedWakeSleep(2),
    ],
    ids=repr,
)
def test_programs_without_a_plate(estimator):
    w = torch.tensor(0.4, requires_grad=True)
    exact = Exact().differentiable_loss(bare_model, bare_guide, w)
    losses, slopes = [], []
    for _ in range(400):
        loss = estimator.differentiable_loss(bare_model, bare_guide, w)
        slopes.append(torch.autograd.grad(loss, w)[0])
        losses.append(loss.detach())
    if isinstance(estimator, ScoreFunction | DisARM | REBAR):
        (expected,) = torch.autograd.grad(exact, w)
        for values, truth in ((losses, exact.detach()), (slopes, expected)):
            values = torch.stack(values)
            assert abs(values.mean() - truth) < 5 * values.std() / 20 + 1e-9
    assert torch.stack(slopes).abs().max() > 1e-3


@pytest.mark.parametrize(
    "estimator",
    [
        Pathwise(4, vectorize_particles=True, max_plate_nesting=1),
        Pathwise(sticking_the_landing=True),
        IWAE(2),
        DReG(2),
        VIMCO(2),
    ],
)
def test_without_latents_every_bound_is_the_likelihood(estimator):
    x = torch.tensor([0.3, -1.2])
    mean = torch.tensor(0.7, requires_grad=True)

    def model(x):
        with pyro.plate("data", 2, subsample=x):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    loss = estimator.differentiable_loss(model, Empty(), x)
    expected = -dist.Normal(mean, 1.0).log_prob(x).sum()
    assert torch.allclose(loss, expected)
    pair = [torch.autograd.grad(value, mean)[0] for value in (loss, expected)]
    assert torch.allclose(*pair)


@pytest.mark.parametrize(
    "estimator",
    [DisARM(), REBAR(), VIMCO(3)],
)
def test_annealing_without_terms_records_no_false_elbo(estimator):
    x = torch.randn(10)

    def model(x):
        with pyro.plate("data", 10, subsample=x):
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def guide(x):
        logit = pyro.param("logit", torch.tensor(0.1))
        with pyro.plate("data", 10, subsample=x):
            pyro.sample("b", dist.Bernoulli(logits=logit * x))

    def half_then_whole(progress):
        return 0.5 if progress < 0.5 else 1.0

    run = fit(model, guide, {"x": x}, estimator, steps=4, anneal=half_then_whole, progress=False)
    elbo = run.trace["svi"]["elbo"].to_numpy()[0]
    if isinstance(estimator, REBAR):  # its bound is a sum of terms
        assert not any(math.isnan(e) for e in elbo)
    else:
        assert [math.isnan(e) for e in elbo] == [True, True, False, False]


@pytest.mark.parametrize(
    "estimator", [DReG(2, vectorize_particles=True), Exact(), Pathwise(2, vectorize_particles=True)]
)
def test_fit_guesses_the_nesting_of_plates(estimator):
    run = fit(*local(12), estimator, steps=3, precision="float64", progress=False)
    assert run.trace["svi"]["elbo"].notnull().all()


def scales():
    x = torch.tensor([0.5, -1.0, 2.0])

    def model(x):
        with pyro.plate("data", 3, subsample=x):
            s = pyro.sample("s", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Normal(0.0, s), obs=x)

    return model, AutoNormal(model, init_scale=0.5), x


@pytest.mark.parametrize("options", [{}, {"kl": "analytic"}, {"sticking_the_landing": True}])
def test_autoguides_of_constrained_latents(options):
    """Their Delta sites carry the Jacobian, which a closed-form KL would forget."""
    model, guide, x = scales()
    guide(x)
    pyro.set_rng_seed(2)
    ours = Pathwise(**options).loss(model, guide, x)
    pyro.set_rng_seed(2)
    assert ours == pytest.approx(Trace_ELBO().loss(model, guide, x), rel=1e-12)


def test_dreg_refuses_a_point_and_takes_an_autonormal():
    model, guide, x = scales()
    assert math.isfinite(DReG(3).loss(model, guide, x))
    point = AutoDelta(model)
    point(x)
    with pytest.raises(UserError, match="site 's' is a Delta at a parameter: use IWAE"):
        DReG(3).differentiable_loss(model, point, x)


def test_exact_does_not_take_a_lognormal_for_a_normal():
    def model():
        pyro.sample("z", dist.LogNormal(0.0, 1.0))

    def guide():
        pyro.sample("z", dist.LogNormal(torch.tensor(0.1, requires_grad=True), 1.0))

    with pytest.raises(UserError, match="site 'z' is a LogNormal"):
        Exact().differentiable_loss(model, guide)


@pytest.mark.parametrize("estimator", [Exact(), GumbelSoftmax(), REBAR(), ScoreFunction()])
def test_impossible_categories_stay_finite(estimator):
    w = torch.tensor([0.2, 0.5], requires_grad=True)

    def model():
        k = pyro.sample("k", dist.OneHotCategorical(torch.tensor([0.3, 0.4, 0.3])))
        pyro.sample("x", dist.Normal(k[..., 0], 1.0), obs=torch.tensor(0.5))

    def guide():
        logits = torch.stack([w[0], torch.tensor(-math.inf), w[1]])
        pyro.sample("k", dist.OneHotCategorical(logits=logits))

    loss = estimator.differentiable_loss(model, guide)
    (gradient,) = torch.autograd.grad(loss, w)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_wrapped_wake_sleep_has_a_value_without_gradients():
    w = torch.tensor(0.4)
    assert math.isfinite(Wrapped(pyro.infer.ReweightedWakeSleep(2)).loss(bare_model, bare_guide, w))


def test_a_frozen_temperature_is_no_obstacle():
    w = torch.tensor(0.4, requires_grad=True)
    REBAR().requires_grad_(False).differentiable_loss(bare_model, bare_guide, w).backward()
    assert w.grad != 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (GumbelSoftmax(temperature=0.5), GumbelSoftmax(temperature=2.0)),
        (ScoreFunction(), LeaveOneOut(2)),
        (Wrapped(Trace_ELBO()), Wrapped(pyro.infer.TraceGraph_ELBO())),
    ],
)
def test_another_estimator_does_not_resume(before, after, tmp_path):
    options = {"steps": 2, "directory": tmp_path, "progress": False}
    fit(*local(12), before, **options)
    with pytest.raises(UserError, match="holds a fit with estimator = "):
        fit(*local(12), after, resume=True, **options)


def plated(sizes, event_dim=0):
    """A program of one Normal site ``z`` of this batch shape, and its observation."""

    def program():
        with contextlib.ExitStack() as stack:
            for dim, size in enumerate(reversed(sizes), 1):
                stack.enter_context(pyro.plate(f"plate {dim}", size, dim=-dim))
            loc = torch.zeros((*sizes, *[2] * event_dim))
            return pyro.sample("z", dist.Normal(loc, 1.0).to_event(event_dim))

    return program


OF_Z = r"at site 'z': .* vs .*: draw it in the same plates, with the same \.to_event"
EVERY = [Pathwise(), ScoreFunction(), LeaveOneOut(2), VIMCO(2), IWAE(2), DReG(2), REBAR(), DisARM()]


@pytest.mark.parametrize("estimator", EVERY, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    ("model", "guide"),
    [
        (plated([3]), plated([])),
        (plated([]), plated([3])),
        (plated([2, 3]), plated([3])),
        (plated([3], event_dim=1), plated([3])),
    ],
)
def test_model_and_guide_must_agree_in_shape_as_in_pyro(model, guide, estimator):
    with pytest.raises(ValueError, match="disagree at site 'z'"):
        Trace_ELBO().differentiable_loss(model, guide)
    with pytest.raises(UserError, match=OF_Z):
        estimator.differentiable_loss(model, guide)


@pytest.mark.parametrize("estimator", EVERY, ids=lambda e: type(e).__name__)
def test_a_latent_that_the_guide_lacks_is_named(estimator):
    with pytest.raises(UserError, match="latent site 'z' of the model is not in the guide"):
        estimator.differentiable_loss(plated([3]), Empty())


def test_a_site_of_the_guide_alone_is_told_unless_it_is_auxiliary():
    def model(infer):
        plated([])()

    def guide(infer):
        a = pyro.sample("a", dist.Normal(0.0, 1.0), infer=infer)
        pyro.sample("z", dist.Normal(a, 1.0))

    with pytest.warns(UserWarning, match="Found non-auxiliary vars in guide but not model"):
        Pathwise().loss(model, guide, {})
    Pathwise().loss(model, guide, {"is_auxiliary": True})


def test_sites_marked_for_enumeration_are_drawn_and_told():
    w = torch.tensor(0.4)
    with pytest.warns(UserWarning, match="use TraceEnum_ELBO instead"):
        ScoreFunction().loss(bare_model, config_enumerate(bare_guide), w)


def test_a_site_outside_of_its_plates_shape_is_named():
    def program():
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0))

    with pytest.raises(UserError, match=r'at site "z", invalid log_prob shape .*to_event'):
        Pathwise().loss(program, program)


@pytest.mark.parametrize("vectorize", [False, True])
def test_a_guide_messenger_is_a_guide(vectorize):
    """It runs the model, whose observed sites are no draws of the guide."""
    model, _, x = scales()
    guide = AutoNormalMessenger(model, init_scale=0.5)
    guide(x)
    options = {"num_particles": 3, "vectorize_particles": vectorize, "max_plate_nesting": 1}
    losses = []
    for kind in (Pathwise, Trace_ELBO):
        pyro.set_rng_seed(2)
        losses.append(kind(**options).loss(model, guide, x))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
