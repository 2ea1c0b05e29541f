"""The cost of a mask as a density, against the sum over all masks."""

import itertools

import pyro.distributions as dist
import pytest
import torch

from ppl_models.mask_chain import PACE, PULL, Cost, MaskChain, cost, log_z

S, C = (torch.tensor(value, dtype=torch.float64) for value in (0.3, 0.7))


def masks(n):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)))


def all_valid(n):
    return torch.ones(1, n, dtype=torch.bool)


def test_the_cost_counts_units_and_changes():
    z = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    valid = torch.tensor([[True, True, True, True, False]])
    torch.testing.assert_close(cost(z, valid, S, C), 3 * S[None] + 2 * C[None])


@pytest.mark.parametrize("c", [0.0, 0.7, 5.0])
@pytest.mark.parametrize("s", [-1.0, 0.0, 0.3, 8.0])
@pytest.mark.parametrize("n", range(1, 9))
def test_log_z_and_its_derivatives_are_those_of_the_sum(n, s, c):
    def by_sum(s, c):
        return (-cost(masks(n), all_valid(n), s, c)).logsumexp(0)

    def by_powers(s, c):
        return log_z(s, c, torch.tensor(n))

    at = torch.tensor(s), torch.tensor(c)
    torch.testing.assert_close(by_powers(*at), by_sum(*at), rtol=0, atol=1e-13)
    ours, sums = (torch.func.grad(f, argnums=(0, 1))(*at) for f in (by_powers, by_sum))
    torch.testing.assert_close(ours, sums, rtol=0, atol=1e-13)


def test_padding_counts_nothing():
    valid = torch.tensor([[True] * 3 + [False] * 5, [False] * 8])
    ours = MaskChain(S, C, valid)
    short = MaskChain(S, C, all_valid(3)).log_prob(masks(3))
    padded = torch.cat([masks(3), torch.ones(8, 5)], -1)[:, None]
    torch.testing.assert_close(ours.log_prob(padded)[:, 0], short)
    torch.testing.assert_close(ours.log_prob(padded)[:, 1], torch.zeros(8))
    assert not ours.sample((50,))[:, ~valid].any()


@pytest.mark.parametrize("n", range(1, 7))
def test_the_prior_is_a_chain_of_bernoulli_sites(n):
    z, prior = masks(n), MaskChain(S, C, all_valid(n))
    before = [None, *z.unbind(-1)]
    sites = [dist.Bernoulli(logits=prior.logits(t, before[t]).expand(len(z))) for t in range(n)]
    chain = sum(site.log_prob(z[:, t]) for t, site in enumerate(sites))
    torch.testing.assert_close(chain, prior.log_prob(z), rtol=0, atol=1e-14 * n)


def test_draws_have_the_chains_frequencies():
    """Pearson's statistic of 32 masks, below the quantile 1 − 1e-6 of χ²(31)."""
    torch.manual_seed(0)
    prior, size = MaskChain(S, C, all_valid(5)), 100_000
    drawn = prior.sample((size,))[:, 0] @ 2.0 ** torch.arange(4, -1, -1)
    expected = size * prior.log_prob(masks(5)).exp()
    counts = torch.bincount(drawn.long(), minlength=32)
    assert ((counts - expected) ** 2 / expected).sum() < 83.0


def test_a_held_rate_changes_its_multiplier_in_training_alone():
    held = Cost(0.1, 0.0, rate=0.25)
    z, valid = torch.ones(3, 2, 4), torch.ones(2, 4, dtype=torch.bool)
    excess = 0.75
    held.eval()
    torch.testing.assert_close(held(z, valid), torch.full((3, 2), 4 * (0.1 + PULL * excess)))
    assert held.s == 0.1
    held.train()
    held(z, valid)
    torch.testing.assert_close(held.s, torch.tensor(0.1 + PACE * excess))


def test_a_negative_multiplier_charges_what_is_left_out():
    """e^−Ω stays a probability, 1 for everything; differences between masks are those of s."""
    z, valid = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]), torch.ones(3, 4) > 0
    valid[:, 3] = False
    found = Cost(-0.2, 0.0)(z, valid)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.4, 0.6]))
    plain = cost(z, valid, -0.2, 0.0)
    torch.testing.assert_close(found - found[0], plain - plain[0])


def test_a_held_rate_is_kept():
    """Bernoulli bits worth .2 nats each are kept at the rate asked for, and s becomes .2."""
    held, logit = Cost(0.0, 0.0, rate=0.3), torch.zeros(1, requires_grad=True)
    valid = torch.ones(1, 1, dtype=torch.bool)
    for _ in range(4000):
        p = torch.sigmoid(logit)
        (gradient,) = torch.autograd.grad(0.2 * p - held(p[None], valid).sum(), logit)
        logit = (logit + 0.5 * gradient).detach().requires_grad_()
    torch.testing.assert_close(p.detach(), torch.tensor([0.3]), rtol=0, atol=1e-3)
    torch.testing.assert_close(held.s, torch.tensor(0.2), rtol=0, atol=1e-3)
