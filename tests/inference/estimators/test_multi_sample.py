"""K-sample bounds by hand: weights, shares and baselines written out for one datum and for two."""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import UserError
from inference.estimators import IWAE, OVIS, VIMCO, DReG, ReweightedWakeSleep
from inference.estimators.ledger import Ledger, Term
from inference.estimators.multi_sample import Units
from tests.support.catalogue import CASES
from tests.support.examples import BIT_DATA as X
from tests.support.examples import bit_guide, bit_model
from tests.support.oracle import critical, exact_pair_bound, flat, pairs_of, tables, worst_z

K = 3


def model(phi, theta):
    with pyro.plate("data", 2):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]))
        pyro.sample("x", dist.Normal(theta * z, 0.7), obs=X)


def guide(phi, theta):
    with pyro.plate("data", 2):
        pyro.sample("z", dist.Normal(phi * X + 0.1, 0.8))


def leaves():
    return torch.tensor(0.6, requires_grad=True), torch.tensor(1.3, requires_grad=True)


def found(estimator, programs, vectorize, unused=False):
    parameters = leaves()
    options = {"vectorize_particles": vectorize, "max_plate_nesting": 1}
    pyro.set_rng_seed(6)
    loss = estimator(K, **options).differentiable_loss(*programs, *parameters)
    return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=unused)


def normals(phi, vectorize):
    pyro.set_rng_seed(6)
    noise = torch.randn(K, 2) if vectorize else torch.stack([torch.randn(2) for _ in range(K)])
    return phi * X + 0.1 + 0.8 * noise


def log_w(z, phi, theta):
    """(K, 2) log p(x, z) and log q(z)."""
    log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(theta * z, 0.7).log_prob(X)
    return log_p, dist.Normal(phi * X + 0.1, 0.8).log_prob(z)


@pytest.mark.parametrize("vectorize", [False, True])
def test_iwae(vectorize):
    phi, theta = leaves()
    log_p, log_q = log_w(normals(phi, vectorize), phi, theta)
    expected = -((log_p - log_q).exp().mean(0).log()).sum()
    loss, gradients = found(IWAE, (model, guide), vectorize)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        gradients, torch.autograd.grad(expected, (phi, theta)), rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("vectorize", [False, True])
def test_dreg(vectorize):
    """w̃² on the path of the guide; w̃ on the model's parameters."""
    phi, theta = leaves()
    z = normals(phi, vectorize)
    fixed_phi, fixed_theta, fixed_z = phi.detach(), theta.detach(), z.detach()
    log_p, log_q = log_w(fixed_z, fixed_phi, fixed_theta)
    share = (log_p - log_q).softmax(0)
    path_p, path_q = log_w(z, fixed_phi, fixed_theta)
    (of_guide,) = torch.autograd.grad(-(share**2 * (path_p - path_q)).sum(), phi)
    of_model = torch.autograd.grad(-(share * log_w(fixed_z, fixed_phi, theta)[0]).sum(), theta)[0]
    loss, gradients = found(DReG, (model, guide), vectorize)
    expected = -((log_p - log_q).exp().mean(0).log()).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients, (of_guide, of_model), rtol=1e-10, atol=0)


def hierarchy(phi, theta):
    """(log p, log q) as functions of (u, z): u ~ q, z ~ q(u), x of z, and p of both."""

    def log_p(u, z):
        prior = dist.Normal(0.0, 1.0).log_prob(u) + dist.Normal(theta * u, 0.8).log_prob(z)
        return prior + dist.Normal(z, 0.7).log_prob(X)

    def log_q(u, z):
        return dist.Normal(phi * X, 0.9).log_prob(u) + dist.Normal(phi * u, 0.6).log_prob(z)

    return log_p, log_q


def test_dreg_of_a_hierarchical_guide():
    """w̃² on the whole path, u's way through q(z | u) as well; no score of any site."""

    def two_sites(phi, theta):
        with pyro.plate("data", 2):
            u = pyro.sample("u", dist.Normal(0.0, 1.0).expand([2]))
            z = pyro.sample("z", dist.Normal(theta * u, 0.8))
            pyro.sample("x", dist.Normal(z, 0.7), obs=X)

    def two_guides(phi, theta):
        with pyro.plate("data", 2):
            u = pyro.sample("u", dist.Normal(phi * X, 0.9))
            pyro.sample("z", dist.Normal(phi * u, 0.6))

    phi, theta = leaves()
    pyro.set_rng_seed(6)
    noise = torch.stack([torch.stack([torch.randn(2), torch.randn(2)]) for _ in range(K)])
    u = phi * X + 0.9 * noise[:, 0]
    z = phi * u + 0.6 * noise[:, 1]
    fixed_p, fixed_q = hierarchy(phi.detach(), theta.detach())
    log_w = fixed_p(u, z) - fixed_q(u, z)
    share = log_w.detach().softmax(0)
    (of_guide,) = torch.autograd.grad(-(share**2 * log_w).sum(), phi)
    of_model = -(share * hierarchy(phi, theta)[0](u.detach(), z.detach())).sum()
    expected = of_guide, torch.autograd.grad(of_model, theta)[0]
    _, gradients = found(DReG, (two_sites, two_guides), False)
    torch.testing.assert_close(gradients, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("vectorize", [False, True])
def test_vimco(vectorize):
    """Σ_k (L − L_{−k}) ∇log q(b_k) + Σ_k w̃_k ∇log w_k, by a loop over particles."""
    phi, theta = leaves()
    pyro.set_rng_seed(6)
    p = (phi * X).sigmoid().detach()
    b = torch.bernoulli(p.expand(K, 2)) if vectorize else torch.stack(
        [torch.bernoulli(p) for _ in range(K)]
    )  # fmt: skip
    log_q = dist.Bernoulli(logits=phi * X).log_prob(b)
    log_p = dist.Bernoulli(0.3).log_prob(b) + dist.Normal(theta * b, 0.7).log_prob(X)
    weights = log_p - log_q
    bound = weights.logsumexp(0) - math.log(K)
    surrogate = bound.sum()
    for k in range(K):
        others = [weights[j] for j in range(K) if j != k]
        replaced = torch.stack([*others, sum(others) / (K - 1)])
        without = replaced.logsumexp(0) - math.log(K)
        surrogate = surrogate + ((bound - without).detach() * log_q[k]).sum()
    loss, gradients = found(VIMCO, (bit_model, bit_guide), vectorize)
    torch.testing.assert_close(loss, -bound.sum().detach(), rtol=1e-12, atol=0)
    expected = torch.autograd.grad(-surrogate, (phi, theta))
    torch.testing.assert_close(gradients, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_ovis(gamma):
    """Equation 17, by a loop over particles: Σ_k (L − w̃_k − c_k) ∇log q(b_k), and the model's."""
    phi, theta = leaves()
    pyro.set_rng_seed(6)
    p = (phi * X).sigmoid().detach()
    b = torch.stack([torch.bernoulli(p) for _ in range(K)])
    log_q = dist.Bernoulli(logits=phi * X).log_prob(b)
    log_p = dist.Bernoulli(0.3).log_prob(b) + dist.Normal(theta * b, 0.7).log_prob(X)
    w = (log_p - log_q).exp().detach()
    bound, share, surrogate = w.mean(0).log(), w / w.sum(0), 0.0
    for k in range(K):
        without = torch.stack([w[j] for j in range(K) if j != k]).mean(0).log()
        baseline = without - gamma * share[k] + (1 - gamma) * math.log(1 - 1 / K)
        surrogate = surrogate + ((bound - share[k] - baseline) * log_q[k]).sum()
    surrogate = surrogate + (share * log_p).sum()
    estimator = functools.partial(OVIS, gamma=gamma)
    loss, gradients = found(estimator, (bit_model, bit_guide), False)
    torch.testing.assert_close(loss, -bound.sum(), rtol=1e-12, atol=0)
    expected = torch.autograd.grad(-surrogate, (phi, theta))
    torch.testing.assert_close(gradients, expected, rtol=1e-10, atol=0)


def test_ovis_is_finite_where_one_weight_is_all():
    """w̃ = (1, e⁻⁸⁰): a signal of 80 and of 0."""
    log_w = torch.tensor([[0.0], [-80.0]])
    term = Term("x", log_w, {}, -1, False)
    units = Units(Ledger([term], [], {}), {}, 2, 1.0)
    found = OVIS(2, gamma=0.0).signal(units)
    torch.testing.assert_close(found, torch.tensor([[80.0], [0.0]]), rtol=1e-12, atol=1e-30)


def test_ovis_is_biased_by_what_its_docstring_says():
    """γ E Σ_k w̃_k ∇log q(z_k), by enumeration; γ = 0 would be seen as wrong."""
    case = CASES["two_layers"]
    log_p, log_q, mass, leaves = tables(case)
    log_w = (log_p - log_q).detach()
    share = torch.sigmoid(log_w[:, None] - log_w[None])
    first = (pairs_of(mass.detach(), share.dim()) * share).sum(1)
    excess = 2 * (first * log_q).sum()  # of both particles
    gradients = torch.autograd.grad(excess, list(leaves.values()), allow_unused=True)
    expected = exact_pair_bound(case)[0] - flat(leaves, gradients).sum(0)
    assert worst_z(case, OVIS(2), expected, 0.05, 2) < critical(2)
    assert worst_z(case, OVIS(2, gamma=0.0), expected, 0.05, 2) > critical(2)


@pytest.mark.parametrize("gamma", [-0.1, 1.5, math.nan])
def test_ovis_refuses_other_gammas(gamma):
    with pytest.raises(UserError, match=r"OVIS with gamma .*: give a number from 0 to 1"):
        OVIS(2, gamma=gamma)


def test_a_part_of_the_data_is_scaled():
    def part(program):
        def of_part(*parameters):
            with pyro.plate("data", 20, subsample=X):
                program(*parameters)

        return of_part

    def inner_model(phi, theta):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]))
        pyro.sample("x", dist.Normal(theta * z, 0.7), obs=X)

    def inner_guide(phi, theta):
        pyro.sample("z", dist.Normal(phi * X + 0.1, 0.8))

    for kind in (IWAE, DReG, VIMCO):
        whole = found(kind, (model, guide), False)
        scaled = found(kind, (part(inner_model), part(inner_guide)), False)
        torch.testing.assert_close(scaled[0], 10 * whole[0], rtol=1e-12, atol=0)
        for ten, one in zip(scaled[1], whole[1], strict=True):
            torch.testing.assert_close(ten, 10 * one, rtol=1e-10, atol=0)


def apart_model(phi, theta):
    """A part of the data; w with an observation of its own; and two that no latent reaches."""
    with pyro.plate("data", 20, subsample=X):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]))
        pyro.sample("x", dist.Normal(theta * z, 0.7), obs=X)
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(w, 1.0), obs=torch.tensor(0.4))
    with pyro.plate("auxiliary", 2):
        pyro.sample("k", dist.Normal(0.0, 1.0), obs=torch.zeros(2))


def apart_guide(phi, theta):
    """And two auxiliary numbers, which the model does not know."""
    with pyro.plate("data", 20, subsample=X):
        pyro.sample("z", dist.Normal(phi * X, 0.8))
    pyro.sample("w", dist.Normal(0.2, torch.tensor(0.9)))
    with pyro.plate("auxiliary", 2):
        pyro.sample("u", dist.Normal(0.0, torch.tensor(1.0)), infer={"is_auxiliary": True})


@pytest.mark.parametrize("kind", [IWAE, DReG, VIMCO, ReweightedWakeSleep])
def test_what_shares_nothing_with_a_subsample_is_a_unit_of_its_own(kind):
    """The sum of the bounds, those of the rows scaled by 10."""
    loss, _ = found(kind, (apart_model, apart_guide), False)
    pyro.set_rng_seed(6)
    draws = [(torch.randn(2), torch.randn(()), torch.randn(2)) for _ in range(K)]
    z, w, u = (torch.stack(v) for v in zip(*draws, strict=True))
    z, w = 0.6 * X + 0.8 * z, 0.2 + 0.9 * w
    rows = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(1.3 * z, 0.7).log_prob(X)
    rows = rows - dist.Normal(0.6 * X, 0.8).log_prob(z)
    of_w = dist.Normal(0.0, 1.0).log_prob(w) + dist.Normal(w, 1.0).log_prob(torch.tensor(0.4))
    of_w = of_w - dist.Normal(0.2, 0.9).log_prob(w)
    of_u = -dist.Normal(0.0, 1.0).log_prob(u)
    bounds = [(v.logsumexp(0) - math.log(K)).sum() for v in (rows, of_w, of_u)]
    free = -math.log(2 * math.pi)
    expected = -(10 * bounds[0] + bounds[1] + bounds[2] + free)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_dreg_takes_a_point_that_is_not_learned():
    def point(loc):
        def guide(phi, theta):
            with pyro.plate("data", 2):
                pyro.sample("z", dist.Delta(loc(phi)))

        return guide

    fixed = point(lambda phi: X + phi.detach())
    loss, gradients = found(DReG, (model, fixed), False, unused=True)
    log_p, _ = log_w(X + 0.6, torch.tensor(0.6), torch.tensor(1.3))
    torch.testing.assert_close(loss, -log_p.sum(), rtol=1e-12, atol=0)
    assert gradients[0] is None
    with pytest.raises(UserError, match="site 'z' is a Delta at a parameter: use IWAE"):
        found(DReG, (model, point(lambda phi: X + phi)), False)
