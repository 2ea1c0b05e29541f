"""What the literature says of each estimator, for every instance of it."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, RenyiELBO

from inference import UserError, fit
from inference.estimators import (
    ARM,
    REBAR,
    VIMCO,
    DisARM,
    DReG,
    LeaveOneOut,
    MovingAverage,
    NeuralBaseline,
    Pathwise,
    ReweightedWakeSleep,
    ScoreFunction,
)
from inference.estimators.relaxed import hard_sample, perturbed_logits, relaxed_sample
from tests.support.catalogue import CASES, X
from tests.support.oracle import (
    CHUNK,
    configurations,
    critical,
    flat,
    pairs_of,
    per_sample,
    tables,
    worst_z,
)
from tests.support.training import assert_same_runs, interrupted


def loss(name, estimator, replicates=4):
    model, guide, _ = CASES[name].programs(replicates)
    pyro.set_rng_seed(3)
    return float(estimator.differentiable_loss(model, guide).detach())


@pytest.mark.parametrize(
    ("plain", "reduced", "name"),
    [
        (ScoreFunction(), ScoreFunction(baseline=MovingAverage()), "two_layers"),
        (ScoreFunction(), REBAR(), "two_layers"),
        (ScoreFunction(num_particles=3), LeaveOneOut(3), "attention"),
        (Pathwise(), Pathwise(sticking_the_landing=True), "two_normals"),
    ],
)
def test_the_variance_reduction_leaves_the_loss_alone(plain, reduced, name):
    assert loss(name, plain) == pytest.approx(loss(name, reduced), rel=1e-13)


def at_the_posterior(estimator):
    """(R, P) gradients in the guide where q = p(z | x): z ~ N(0, 1), x ~ N(z, 1)."""
    w = torch.tensor([0.5, -0.5 * torch.log(torch.tensor(2.0))]).expand(5, 1, 2).clone()
    w.requires_grad_()

    def model():
        with pyro.plate("replicates", 5, dim=-2), pyro.plate("data", 3, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=X)

    def guide():
        with pyro.plate("replicates", 5, dim=-2), pyro.plate("data", 3, dim=-1):
            pyro.sample("z", dist.Normal(w[..., 0] * X, w[..., 1].exp()))

    return torch.autograd.grad(estimator.differentiable_loss(model, guide), w)[0]


@pytest.mark.parametrize("estimator", [Pathwise(sticking_the_landing=True), DReG(3)])
def test_no_gradient_at_the_posterior(estimator):
    assert at_the_posterior(estimator).abs().max() < 1e-12
    assert at_the_posterior(Pathwise()).abs().max() > 0.1


@pytest.mark.parametrize("kind", [LeaveOneOut, VIMCO, ReweightedWakeSleep])
def test_one_particle_has_no_other(kind):
    with pytest.raises(UserError, match="needs num_particles of 2 or more"):
        kind(1)


def variance(name, estimator):
    pyro.set_rng_seed(5)
    gradients, _ = per_sample(CASES[name], estimator, 200_000)
    return gradients[:, -len(CASES[name].params["w"]) :].var(0).sum()


@pytest.mark.parametrize("name", ["bernoulli", "vector_of_bits", "batch_of_one"])
def test_disarm_is_never_noisier_than_arm(name):
    """Rao-Blackwell: DisARM is ARM's mean given the pair, at the same evaluations."""
    assert variance(name, DisARM()) < variance(name, ARM())


@pytest.mark.parametrize("name", ["bernoulli", "attention"])
def test_leave_one_out_is_quieter_than_the_bare_score(name):
    assert variance(name, LeaveOneOut(2)) < 0.5 * variance(name, ScoreFunction(2))


def test_vimco_moves_a_discrete_guide_and_renyi_does_not():
    name = "bernoulli"
    model, guide, leaves = CASES[name].programs(1)
    RenyiELBO(alpha=0, num_particles=3).loss_and_grads(model, guide)
    assert leaves["w"].grad.abs().max() == 0
    model, guide, leaves = CASES[name].programs(1)
    VIMCO(3).loss_and_grads(model, guide)
    assert leaves["w"].grad.abs().max() > 1e-3


def wake_gradient(name):
    """(P,) exact E of −Σ_k w̃_k ∇[log p + log q](z_k) for K = 2, weights for each datum."""
    case = CASES[name]
    if case.local:
        log_p, log_q, mass, leaves = tables(case)
        parts = [(log_p, log_q)]
    else:
        parts, mass, leaves = configurations(case)
    aim = 0.0
    for log_p, log_q in parts:
        log_w = (log_p - log_q).detach() / case.scale
        share = torch.sigmoid(log_w[:, None] - log_w[None])
        first = (pairs_of(mass.detach(), share.dim()) * share).sum(1)
        aim = aim - 2 * (first * (log_p + log_q)).sum()
    return flat(leaves, torch.autograd.grad(aim, list(leaves.values()))).sum(0)


@pytest.mark.parametrize(
    "name",
    ["bernoulli", "two_layers", "one_hot", "nested", "parts_of_a_datum", "siblings", "crossed"],
)
def test_wake_sleep_weighs_each_datum_by_itself(name):
    expected = wake_gradient(name)
    z = worst_z(CASES[name], ReweightedWakeSleep(2), expected, 0.05, 100)
    assert z < critical(100)


def test_exclusive_wake_sleep_descends_the_elbo_s_divergence():
    """Its guide's gradient is the ELBO's, which leave-one-out estimates."""
    from tests.support.oracle import exact

    case = CASES["two_layers"]
    expected, _ = exact(case)
    estimator = ReweightedWakeSleep(2, divergence="exclusive")
    guide = slice(len(case.params["t"]), None)
    gradients, _ = per_sample(case, estimator, 20 * CHUNK)
    mean, error = gradients.mean(0), gradients.std(0) / len(gradients) ** 0.5
    z = ((mean - expected) / error)[guide]
    assert z.abs().max() < critical(100)
    assert (error[guide] * 7).max() < 0.1 * expected[guide].norm()


def test_gumbel_max_draws_from_the_softmax():
    logits = torch.tensor([0.2, -1.0, 0.7]).log_softmax(-1)
    one_hot = dist.OneHotCategorical(logits=logits.expand(200_000, 3))
    shares = hard_sample(one_hot, perturbed_logits(one_hot)).mean(0)
    error = (logits.exp() * (1 - logits.exp()) / 200_000).sqrt()
    assert ((shares - logits.exp()) / error).abs().max() < 5


def test_xu_s_average_is_corrected_for_its_start():
    average = MovingAverage(0.9)
    given = [average("a", torch.full((2, 3), value), (), {}).item() for value in (4.0, 2.0, 1.0)]
    assert given[0] == 0.0
    assert given[1] == pytest.approx(4.0)
    assert given[2] == pytest.approx((0.9 * 4 + 2) / 1.9)


def test_one_average_may_serve_all_sites():
    average = MovingAverage(0.9, shared=True)
    average("a", torch.full((2, 3), 4.0), (), {})
    assert average("b", torch.full((2, 3), 1.0), (), {}) == pytest.approx(4.0)
    assert MovingAverage()("b", torch.ones(2), (), {}) == 0


def test_normalising_divides_by_the_running_deviation_where_it_is_above_one():
    plain, scaled = ScoreFunction(), ScoreFunction(normalise=True).eval()
    found = []
    for variance in (None, 0.25, 9.0):
        estimator = plain if variance is None else scaled
        if variance is not None:
            scaled.squares.averages = {"b": torch.tensor([variance, 1.0])}
        model, guide, leaves = CASES["bernoulli"].programs(4)
        pyro.set_rng_seed(3)
        loss = estimator.differentiable_loss(model, guide)
        found.append(torch.autograd.grad(loss, leaves["w"])[0])
    assert torch.allclose(found[1], found[0], rtol=1e-12)
    assert torch.allclose(found[2], found[0] / 3, rtol=1e-12)


class Net(torch.nn.Module):
    """A guess for each datum."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x):
        return self.layer(x[:, None])


def discrete_program(size=40):
    """b_n ~ Bernoulli, x_n ~ N(b_n, 1), as functions with pyro.param."""
    x = torch.randn(size)

    def model(x):
        with pyro.plate("data", size, subsample=x):
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(3 * b, 1.0), obs=x)

    def guide(x):
        logit = pyro.param("logit", torch.tensor(0.1))
        with pyro.plate("data", size, subsample=x):
            pyro.sample("b", dist.Bernoulli(logits=logit * x))

    return model, guide, {"x": x}


def neural():
    return ScoreFunction(baseline=NeuralBaseline(Net(), lambda x: x), normalise=True)


@pytest.mark.parametrize(
    "estimator", [ScoreFunction(baseline=MovingAverage()), neural(), REBAR()], ids=repr
)
def test_state_resumes_bit_for_bit_with_a_ragged_last_batch(estimator, tmp_path, monkeypatch):
    model, guide, data = discrete_program()
    options = {
        "model": model,
        "guide": guide,
        "data": data,
        "estimator": estimator,
        "steps": 30,
        "batch_size": 12,
        "precision": "float64",
        "progress": False,
    }
    fit(directory=tmp_path / "whole", **copy.deepcopy(options))
    interrupted(17, monkeypatch, directory=tmp_path / "cut", **copy.deepcopy(options))
    fit(directory=tmp_path / "cut", resume=True, **copy.deepcopy(options))
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("build", [neural, REBAR], ids=["NeuralBaseline", "REBAR"])
def test_its_own_parameters_are_trained_by_fit_svi_and_as_a_module(build):
    model, guide, data = discrete_program()
    optimizer = pyro.optim.Adam({"lr": 0.1})
    estimator = build()
    before = copy.deepcopy(estimator.state_dict())
    svi = SVI(model, guide, optimizer, loss=estimator)
    for _ in range(3):
        svi.step(**data)
    own = [name for name, _ in estimator.named_parameters()]
    assert own
    assert all((estimator.state_dict()[name] != before[name]).any() for name in own)
    module = build()(model, guide)
    module(**data).backward()
    assert {name for name, p in module.named_parameters() if p.grad is not None} == {
        f"elbo.{name}" for name in own
    }


def test_the_trace_holds_the_terms_of_our_elbo():
    model, guide, data = discrete_program()
    run = fit(model, guide, data, ScoreFunction(baseline=MovingAverage()), steps=5, progress=False)
    svi = run.trace["svi"].to_dataset()
    assert {"log_likelihood_x", "kl_b"} <= set(svi)
    total = svi["log_likelihood_x"] - svi["kl_b"]
    assert abs(total - svi["elbo"]).max() < 1e-5


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_a_relaxed_bit_has_its_temperature(temperature):
    """E σ((φ + L)/τ) against its integral over the logistic noise L."""
    logits = torch.tensor(0.8).expand(400_000)
    bit = dist.Bernoulli(logits=logits)
    drawn = relaxed_sample(bit, perturbed_logits(bit), temperature)
    u = (torch.arange(1_000_000) + 0.5) / 1_000_000
    expected = torch.sigmoid((0.8 + torch.logit(u)) / temperature)
    z = (drawn.mean() - expected.mean()) / (drawn.std() / len(drawn) ** 0.5)
    assert abs(z) < 5
    assert abs(drawn.std() - expected.std()) < 0.003
