"""A ``pyro.factor`` of the guide: log q of a draw that Pyro does not see, or another term."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

from inference.engine.program.objective import with_weighted_kl
from inference.engine.program.program import Program
from inference.estimators import (
    ARM,
    ARMS,
    CARMS,
    IWAE,
    REBAR,
    RELAX,
    VIMCO,
    DisARM,
    DReG,
    Exact,
    GumbelSoftmax,
    LeaveOneOut,
    Marginal,
    MovingAverage,
    Pathwise,
    ReweightedWakeSleep,
    ScoreFunction,
)
from inference.util.errors import UserError

X = torch.tensor([0.3, 1.4])
GATES, SLOPE = [0.4, -0.3], 0.7
COPIES = 20_000  # of the program, side by side, each with parameters of its own
CRITICAL = 4.6  # 8 tests of 3 numbers: within it with chance .9999


def q_of_first(copies):
    """(C, data) q(z)."""
    return dist.Bernoulli(logits=pyro.param("w", torch.tensor(GATES).repeat(copies, 1)))


def q_of_second(z):
    """(C, data) q(b | z)."""
    slope = pyro.param("slope", torch.full((len(z), 1), SLOPE))
    return dist.Bernoulli(logits=slope * (z - 0.5))


def in_plates(program):
    def plated(copies):
        with pyro.plate("copies", copies, dim=-2), pyro.plate("data", 2, dim=-1):
            program(copies)

    return plated


@in_plates
def model(copies):
    z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.3)))
    b = pyro.sample("b", dist.Bernoulli(0.2 + 0.6 * z))
    pyro.sample("x", dist.Normal(z + 2 * b, 1.0), obs=X)


@in_plates
def first_hidden(copies):
    """z is drawn outside of Pyro; the factor that says so stands after what depends on it."""
    q = q_of_first(copies)
    z = pyro.sample("z", dist.Delta(q.sample()))
    pyro.sample("b", q_of_second(z))
    pyro.factor("log_q", q.log_prob(z), has_rsample=False)


@in_plates
def first_auxiliary(copies):
    """The same, but z is drawn by Pyro."""
    u = pyro.sample("u", q_of_first(copies), infer={"is_auxiliary": True})
    z = pyro.sample("z", dist.Delta(u))
    pyro.sample("b", q_of_second(z))


@in_plates
def second_hidden(copies):
    """b is drawn outside of Pyro, given z."""
    z = pyro.sample("z", q_of_first(copies))
    q = q_of_second(z)
    b = q.sample()
    pyro.factor("log_q", q.log_prob(b), has_rsample=False)
    pyro.sample("b", dist.Delta(b))


def exact_gradient(particles):
    """(3,) ∇ of E log 1/K Σ_k p(x, z_k, b_k) / q(z_k, b_k), by all values of K draws."""
    w, slope = torch.tensor(GATES).requires_grad_(), torch.tensor(SLOPE).requires_grad_()
    z, b = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2))).T[..., None]
    log_p = dist.Bernoulli(0.3).log_prob(z) + dist.Bernoulli(0.2 + 0.6 * z).log_prob(b)
    log_p = log_p + dist.Normal(z + 2 * b, 1.0).log_prob(X)
    log_q = dist.Bernoulli(logits=w).log_prob(z)
    log_q = log_q + dist.Bernoulli(logits=slope * (z - 0.5)).log_prob(b)  # (4, data)
    bound = torch.zeros(())
    for values in map(list, itertools.product(range(4), repeat=particles)):
        log_w = (log_p - log_q)[values].logsumexp(0) - math.log(particles)
        bound = bound + (log_q[values].sum(0).exp() * log_w).sum()
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(-bound, (w, slope))])


def gradients(estimator, guide, copies=COPIES, seed=0):
    """(loss, (copies, 3) gradients)."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    loss = estimator.loss_and_grads(model, guide, copies)
    store = dict(pyro.get_param_store().named_parameters())
    return loss, torch.cat([store[name].grad for name in ("w", "slope")], 1)


SCORES = {
    "score": (ScoreFunction, 1),
    "average": (lambda: ScoreFunction(baseline=MovingAverage()), 1),
    "leave-one-out": (lambda: LeaveOneOut(2), 1),
    "vimco": (lambda: VIMCO(2), 2),
}


@pytest.mark.parametrize("guide", [first_hidden, second_hidden])
@pytest.mark.parametrize("name", SCORES)
def test_a_factor_without_rsample_is_the_score_of_a_hidden_draw(name, guide):
    build, particles = SCORES[name]
    estimator = build()
    for seed in range(3):  # the average settles
        _, found = gradients(estimator, guide, seed=seed)
    expected, error = exact_gradient(particles), found.std(0) / COPIES**0.5
    assert ((found.mean(0) - expected) / error).abs().max() < CRITICAL
    assert 8 * error.norm() < expected.norm()  # the score, or −log q, forgotten would be seen


@pytest.mark.parametrize("name", SCORES)
def test_hidden_or_auxiliary_is_one_estimate(name):
    hidden, auxiliary = (
        gradients(SCORES[name][0](), guide, 5) for guide in (first_hidden, first_auxiliary)
    )
    assert hidden[0] == pytest.approx(auxiliary[0], rel=1e-5)
    torch.testing.assert_close(hidden[1][:, :2], auxiliary[1][:, :2])  # b is before the factor


@in_plates
def one_normal(copies):
    z = pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=X)


def penalised(copies):
    """A normal draw outside of Pyro, its log q, and a penalty of the draw."""
    with pyro.plate("copies", copies, dim=-2), pyro.plate("data", 2, dim=-1):
        q = dist.Normal(pyro.param("w", torch.tensor(GATES).repeat(copies, 1)), 0.7)
        z = q.rsample()
        pyro.factor("log_q", q.log_prob(z) + 0.1 * z.square(), has_rsample=True)
        pyro.sample("z", dist.Delta(z))


@pytest.mark.parametrize(
    "build",
    [Pathwise, lambda: Pathwise(kl="analytic"), ScoreFunction, lambda: IWAE(1), GumbelSoftmax],
)
def test_a_factor_with_rsample_is_pyros(build):
    found = []
    for elbo in (Trace_ELBO(), build()):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        loss = elbo.loss_and_grads(one_normal, penalised, 3)
        found.append((loss, pyro.get_param_store()._params["w"].grad.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1])


def test_particles_weigh_the_factor_of_a_draw_for_all_rows():
    """Sites of different plates: the bound is that of the guide that draws by Pyro."""

    def both():
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 2):
            z = pyro.sample("z", dist.Normal(shift, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=X)

    def guide(hidden):
        q = dist.Normal(torch.tensor(0.3), 0.7)
        shift = q.rsample() if hidden else pyro.sample("shift", q)
        if hidden:
            pyro.factor("log_q", q.log_prob(shift), has_rsample=True)
            pyro.sample("shift", dist.Delta(shift))
        with pyro.plate("data", 2):
            pyro.sample("z", dist.Normal(shift, 0.5))

    losses = []
    for hidden in (True, False):
        pyro.set_rng_seed(0)
        losses.append(IWAE(4).loss(lambda hidden: both(), guide, hidden))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


RERUNS = {
    "sticking the landing": lambda: Pathwise(sticking_the_landing=True),
    "DReG": lambda: DReG(2),
    "wake-sleep": lambda: ReweightedWakeSleep(2),
    "Exact": Exact,
}
SITEWISE = {
    "ARM": ARM,
    "DisARM": DisARM,
    "ARMS": ARMS,
    "CARMS": CARMS,
    "Marginal": Marginal,
    "REBAR": REBAR,
    "RELAX": lambda: RELAX(torch.nn.Identity()),
}
RERUNS |= SITEWISE


@pytest.mark.parametrize("has_rsample", [True, False])
@pytest.mark.parametrize("name", RERUNS)
def test_refused_where_the_guide_runs_again(name, has_rsample):
    def model(copies):
        pyro.sample("z", dist.Bernoulli(0.5) if name in SITEWISE else dist.Normal(0, 1))

    def guide(copies):
        model(copies)
        pyro.factor("log_q", torch.tensor(0.5), has_rsample=has_rsample)

    with pytest.raises(UserError, match=r"site 'log_q' is a .*factor"):
        RERUNS[name]().differentiable_loss(model, guide, 1)


@pytest.mark.parametrize("build", [Pathwise, lambda: IWAE(2), GumbelSoftmax])
def test_a_factor_without_rsample_is_refused_by_paths(build):
    with pytest.raises(UserError, match="site 'log_q' is a factor without rsample: use"):
        build().differentiable_loss(model, first_hidden, 1)


def test_the_weight_of_the_kl_weighs_the_factor():
    """β KL has β log q, whichever way q is written."""
    found = []
    for guide in (first_hidden, first_auxiliary):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        found.append(ScoreFunction().loss(*with_weighted_kl(Program(model, guide), 0.25), 4))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
