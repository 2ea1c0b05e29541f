"""Densities told from noise: the formulas, the optimum, the error beside maximum likelihood's.

z-tests hold at |z| < 4 (false alarms: 1e-4), and what they would mistake it for lies beyond.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn
from torch.nn import functional as F

from guides.empty import Empty
from inference import fit
from ppl_models.density import DensityNCE
from tests.support.oracle import z_of

PRECISION = torch.tensor([1.5, -0.6, 1.0], dtype=torch.float64)  # Λ₁₁, Λ₁₂, Λ₂₂ of the data
LOG_Z = math.log(2 * math.pi) - 0.5 * math.log(1.5 * 1.0 - 0.6**2)
ORIGIN = torch.zeros(2, dtype=torch.float64)
NOISE = dist.Normal(ORIGIN, 3.0).to_event(1)


def features(x):
    """f(x) (…, 3), so that −½ xᵀΛx = f(x) · (Λ₁₁, Λ₁₂, Λ₂₂)."""
    one, two = x.unbind(-1)
    return -torch.stack([one**2 / 2, one * two, two**2 / 2], -1)


class Gaussian(nn.Module):
    """log u(x) = −½ xᵀΛx, of one density or of many; the normaliser is left out."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(precision.clone())

    def forward(self, x):
        return (features(x) * self.precision).sum(-1)


def program(nu, size, precision=PRECISION, log_z=LOG_Z):
    return DensityNCE(Gaussian(precision), NOISE, nu, size, log_z)


def data(*shape):
    a, b, c = PRECISION.tolist()
    matrix = torch.tensor([[a, b], [b, c]])
    return dist.MultivariateNormal(ORIGIN, precision_matrix=matrix).sample(shape)


def loss(model, x):
    return Trace_ELBO().differentiable_loss(model, Empty(), x)


def grid(reach=9.0, cells=400):
    """(points (M, 2), the area of each): sums over them are integrals to rounding."""
    line = torch.linspace(-reach, reach, cells)
    return torch.cartesian_prod(line, line), (line[1] - line[0]) ** 2


# -- the objective -------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [(), (3,)])
def test_the_elbo_and_its_gradient_by_hand(places):
    """Σ log σ(Δ) + Σ log σ(−Δ), ∂/∂Δ = 1 − σ of data and −σ of noise; 6 rows of a set of 60."""
    x, start = data(6, *places), PRECISION + 0.3 * torch.rand(*places, 3)
    model = program(4, 60, start, 1.0 + torch.rand(places))
    pyro.set_rng_seed(1)
    noise = NOISE.sample((4, 6, *places))
    pyro.set_rng_seed(1)
    trace = poutine.trace(model).get_trace(x)
    found = trace.log_prob_sum()

    def delta(points):
        log_u = (features(points) * start).sum(-1)
        return log_u - model.log_z.detach() - math.log(4) - NOISE.log_prob(points)

    expected = 10 * (F.logsigmoid(delta(x)).sum() + F.logsigmoid(-delta(noise)).sum())
    assert torch.allclose(found, expected, rtol=1e-12)
    of_data, of_noise = 1 - delta(x).sigmoid(), -delta(noise).sigmoid()
    known = of_data[..., None] * features(x), of_noise[..., None] * features(noise)
    by_precision = 10 * (known[0].sum(0) + known[1].sum((0, 1)))
    by_log_z = -10 * (of_data.sum(0) + of_noise.sum((0, 1)))
    for ours, theirs in zip(
        torch.autograd.grad(found, [model.log_u.precision, model.log_z]),
        (by_precision, by_log_z),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, rtol=1e-10)
    assert trace.nodes["noise"]["fn"].batch_shape == (4, 6)


@pytest.mark.parametrize("nu", [1, 5, 25])
def test_g_is_nu_q_over_p_at_the_truth(nu):
    """G = e^{−Δ}: noise over data.  Its inverse is what a mistaken side would give."""
    x = data(50)
    g = (-program(nu, 50).logit(x)).exp()
    p = dist.MultivariateNormal(ORIGIN, precision_matrix=matrix()).log_prob(x).exp()
    assert torch.allclose(g, nu * NOISE.log_prob(x).exp() / p, rtol=1e-12)
    assert not torch.allclose(g, p / (nu * NOISE.log_prob(x).exp()), rtol=0.1)


def matrix():
    a, b, c = PRECISION.tolist()
    return torch.tensor([[a, b], [b, c]])


def test_log_p_is_normalised_at_the_truth():
    x, area = grid()
    with torch.no_grad():
        mass = program(1, 1).log_p(x).exp()
    assert abs(float(mass.sum() * area) - 1) < 1e-12


# -- the functional derivative -------------------------------------------------------------------


def along(act, delta, direction, p, q, nu):
    """d/dε and d²/dε² at 0 of ∫ p act(Δ + εη) + ν ∫ q act(−Δ − εη), p and q masses of cells."""
    epsilon = torch.zeros((), requires_grad=True)
    moved = delta + epsilon * direction
    objective = (p * act(moved)).sum() + nu * (q * act(-moved)).sum()
    (first,) = torch.autograd.grad(objective, epsilon, create_graph=True)
    (second,) = torch.autograd.grad(first, epsilon)
    return first.item(), second.item()


@pytest.mark.parametrize("nu", [1, 5, 25])
def test_any_change_of_the_best_logit_costs(nu):
    """The first derivative is 0 and the second −∫ η² pνq/(p + νq), in every direction η tried.

    Without the log, a common slip, the first is not: it is
    ∫ η (p − νq) σ(1 − σ).
    """
    x, area = grid(9.0, 80)
    with torch.no_grad():
        delta = program(nu, 1).logit(x)
        q = NOISE.log_prob(x).exp() * area
        p = nu * q * delta.exp()
    share = delta.sigmoid()
    for _ in range(20):
        direction = torch.randn(len(x))
        first, second = along(F.logsigmoid, delta, direction, p, q, nu)
        curvature = -(direction**2 * share * nu * q).sum()
        assert abs(first) < 1e-10
        assert second == pytest.approx(float(curvature), rel=1e-10)
        printed, _ = along(torch.sigmoid, delta, direction, p, q, nu)
        by_hand = (direction * (p - nu * q) * share * (1 - share)).sum()
        assert printed == pytest.approx(float(by_hand), abs=1e-12)
    upward, _ = along(torch.sigmoid, delta, torch.ones(len(x)), p, q, nu)
    assert abs(upward) > 0.01


# -- what is found -------------------------------------------------------------------------------


def covariance(nu):
    """n Cov of (Λ̂, log Ẑ) as n → ∞: Gutmann & Hyvärinen 2012, theorem 3.

    I⁻¹ − (1 + 1/ν) I⁻¹ E[Pg] E[Pg]ᵀ I⁻¹, I = E[P g gᵀ], P = νq / (p + νq), g = ∇ log p.
    """
    x, area = grid()
    with torch.no_grad():
        model = program(nu, 1)
        p, share = model.log_p(x).exp() * area, (-model.logit(x)).sigmoid()
    g = torch.cat([features(x), -torch.ones(len(x), 1)], 1)
    inverse = torch.linalg.inv(g.T @ ((p * share)[:, None] * g))
    drift = inverse @ (g.T @ (p * share))
    return inverse - (1 + 1 / nu) * torch.outer(drift, drift)


def fisher():
    """n Cov of maximum likelihood's Λ̂: of a normalised model, I = Cov f(x)."""
    x, area = grid()
    with torch.no_grad():
        p = program(1, 1).log_p(x).exp() * area
    centred = features(x) - p @ features(x)
    return torch.linalg.inv(centred.T @ (p[:, None] * centred))


def maximum(model, x):
    """Every place's Λ and log Z at the maximum, for noise drawn once."""
    parameters = [model.log_u.precision, model.log_z]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-4
    )

    def closure():
        pyro.set_rng_seed(5)
        optimizer.zero_grad()
        cost = loss(model, x) / len(x)
        cost.backward()
        return cost

    optimizer.step(closure)
    assert max(float(p.grad.abs().max()) for p in parameters) < 2e-4
    return model.log_u.precision.detach(), model.log_z.detach()


@pytest.mark.parametrize("nu", [1, 3])
def test_errors_are_the_theorem_s(nu):
    """200 trainings on 1,000 points: n MSE of Λ, and of log Z, within 4 standard errors.

    Where ν = 1, maximum likelihood's error lies beyond them (5.4 to 6.6, over five seeds).
    """
    runs, n = 200, 1000
    x = data(n, runs)
    model = program(nu, n, PRECISION.expand(runs, 3), torch.full((runs,), LOG_Z))
    precision, log_z = maximum(model, x)
    errors = (n * ((precision - PRECISION) ** 2).sum(-1)).numpy()
    expected = covariance(nu)
    assert abs(z_of(errors, float(expected[:3, :3].trace()))) < 4
    assert abs(z_of((n * (log_z - LOG_Z) ** 2).numpy(), float(expected[3, 3]))) < 4
    assert nu > 1 or z_of(errors, float(fisher().trace())) > 4


def test_the_theorem_s_error_falls_to_maximum_likelihood_s():
    best = float(fisher().trace())
    ratios = [float(covariance(nu)[:3, :3].trace()) / best for nu in (1, 10, 100, 100_000)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 1.5
    assert ratios[-1] == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("compile", [False, True])
def test_fit_finds_density_and_normaliser(compile):
    """From afar, noise drawn anew at each step, in minibatches: Λ and log Z within 5 errors."""
    n, nu = 2000, 5
    model = program(nu, n, torch.tensor([0.5, 0.0, 0.5]), 0.0)
    fit(
        model,
        Empty(),
        {"x": data(n)},
        optimizer=lambda p: torch.optim.Adam(p, lr=0.2),
        schedule=lambda progress: (1 - progress) ** 2,
        steps=300,
        batch_size=500,
        precision="float64",
        compile=compile,
        progress=False,
    )
    error = (covariance(nu).diagonal() / n).sqrt()
    found = torch.cat([model.log_u.precision, model.log_z[None]]).detach()
    truth = torch.cat([PRECISION, torch.tensor([LOG_Z])])
    assert ((found - truth) / error).abs().max() < 5
    assert ((found - torch.tensor([0.5, 0.0, 0.5, 0.0])) / error)[[0, 1, 3]].abs().min() > 10


# -- noise that cannot come where data are -------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "there"),
    [
        (dist.Uniform(ORIGIN - 1, ORIGIN + 1).to_event(1), [3.0, 0.0]),
        (dist.Normal(ORIGIN, 1e-170).to_event(1), [3.0, 0.0]),
        (dist.LogNormal(ORIGIN, 1.0).to_event(1), [-1.0, 1.0]),
    ],
)
def test_noise_that_leaves_data_uncovered_is_refused(noise, there):
    x = torch.tensor([[0.5, 0.25], there])
    model = DensityNCE(Gaussian(PRECISION), noise, 2, 2)
    with pytest.raises(ValueError, match=r"density 0 at \d of 2 data: give noise that can come"):
        fit(model, Empty(), {"x": x}, steps=1, precision="float64", progress=False)
    covering = DensityNCE(Gaussian(PRECISION), NOISE, 2, 2)
    fit(covering, Empty(), {"x": x}, steps=1, precision="float64", progress=False)
