"""The Bayesian SVM: λ summed out, λ drawn, and λ as EM's missing data are one hinge."""

import pyro
import pytest
import torch
from pyro.nn import PyroModule

from inference.estimators import Pathwise, ScoreFunction
from ppl_models.label_heads import NO_LABEL
from ppl_models.support_vector import (
    Augmented,
    Hinge,
    expectation_maximisation,
    log_joint,
    posterior,
)

GAMMAS = [0.5, 1.0, 2.5]
MARGINS = torch.tensor([-2.0, 0.3, 0.999, 1.4, 5.0], dtype=torch.double)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_summing_out_the_scale_gives_the_hinge(gamma):
    at = torch.linspace(-45, 12, 200_001)  # log λ
    scale = at.exp()[:, None]
    mass = torch.trapezoid((log_joint(scale, MARGINS, gamma) + at[:, None]).exp(), at, dim=0)
    hinge = (1 - MARGINS).relu()
    torch.testing.assert_close(mass, torch.exp(-2 * gamma * hinge), rtol=1e-6, atol=0)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_printed_integrand_without_its_square_root_would_not(gamma):
    at = torch.linspace(-45, 12, 200_001)
    scale = at.exp()[:, None]
    wrong = log_joint(scale, MARGINS, gamma) + scale.log() / 2
    mass = torch.trapezoid((wrong + at[:, None]).exp(), at, dim=0)
    assert bool(((mass.log() + 2 * gamma * (1 - MARGINS).relu()).abs() > 0.05).any())


@pytest.mark.parametrize("gamma", GAMMAS)
def test_every_draw_of_the_exact_posterior_weighs_the_same(gamma):
    """log p(y, λ) − log q(λ) = −2γ max(0, 1 − u): of variance 0, to rounding."""
    torch.manual_seed(0)
    q = posterior(MARGINS, gamma)
    draws = q.sample((1000,))
    weights = log_joint(draws, MARGINS, gamma) - q.log_prob(draws)
    expected = -2 * gamma * (1 - MARGINS).relu()
    torch.testing.assert_close(weights, expected.expand_as(weights), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("gamma", [0.5, 2.5])
def test_the_supplements_shape_of_one_holds_for_gamma_one_alone(gamma):
    torch.manual_seed(0)
    printed = posterior(MARGINS, 1.0)
    draws = printed.sample((1000,))
    weights = log_joint(draws, MARGINS, gamma) - printed.log_prob(draws)
    assert bool((weights.std(0) > 0.1).all())
    mean_inverse = (1 / posterior(MARGINS, gamma).sample((200_000,))).mean(0)  # (24): for every γ
    torch.testing.assert_close(
        mean_inverse[[0, 3, 4]], (1 / (1 - MARGINS).abs())[[0, 3, 4]], rtol=0.05, atol=0
    )


class OneHead(PyroModule):
    """A head on given codes, under a plate."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, s, y):
        with pyro.plate("data", len(s)):
            self.head(s, y)


class ItsGuide(OneHead):
    def forward(self, s, y):
        with pyro.plate("data", len(s)):
            self.head.draw(s, y)


@pytest.mark.parametrize("estimator", [Pathwise(max_plate_nesting=1), ScoreFunction(1)])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_one_draw_has_the_gradient_of_the_hinge(estimator, gamma):
    torch.manual_seed(0)
    s, y = torch.randn(7, 4), torch.tensor([0, 1, 2, NO_LABEL, 1, 0, 2])
    collapsed, drawn = Hinge(4, 3, gamma), Augmented(4, 3, gamma)
    drawn.load_state_dict(collapsed.state_dict())
    losses, slopes = [], []
    for head in (collapsed, drawn):
        loss = estimator.differentiable_loss(OneHead(head), ItsGuide(head), s, y)
        losses.append(loss)
        slopes.append(torch.autograd.grad(loss, list(head.parameters())))
    torch.testing.assert_close(*losses)
    if isinstance(estimator, Pathwise):  # the score function adds its score × 0, and noise of it
        for one, other in zip(*slopes, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    u = collapsed.margins(s, y)[y != NO_LABEL]
    torch.testing.assert_close(losses[0], 2 * gamma * (1 - u).relu().sum())


def test_the_expected_inverse_is_a_constant_of_the_gradient():
    """γ = 1: d/du is 2·1[u < 1] with E[1/λ] held; through it 1.5 inside and .5 beyond."""
    for held, inside, beyond in ((True, 2.0, 0.0), (False, 1.5, 0.5)):
        u = torch.tensor([0.3, 1.4], requires_grad=True)
        w = 1 / (1 - u).abs()
        w = w.detach() if held else w
        # −E (1 + λ − u)²/2λ, its terms in u: −(1 − u)² w/2 − (1 − u)
        expected = -((1 - u) ** 2) * w / 2 - (1 - u)
        (slope,) = torch.autograd.grad(expected.sum(), u)
        torch.testing.assert_close(slope, torch.tensor([inside, beyond]))


def test_em_reaches_the_optimum():
    torch.manual_seed(0)
    rows = torch.randn(60, 3) + torch.tensor([0.8, -0.2, 0.1])
    spread = 2.0

    def cost(beta):
        return 2 * (1 - rows @ beta).relu().sum() + beta.square().sum() / (2 * spread**2)

    found = expectation_maximisation(rows, spread, 1000)
    others = found + torch.logspace(-4, 0, 400)[:, None] * torch.randn(400, 3)
    assert all(cost(beta) > cost(found) - 1e-6 for beta in others)  # it is convex
    assert cost(expectation_maximisation(rows, spread, 3)) > cost(found) + 1e-3


def test_the_pseudo_likelihood_is_none_over_labels():
    """Σ_labels Π_ℓ L(y_ℓ | s) is not one, and depends on s: no bound on log p(label | s)."""
    torch.manual_seed(0)
    head = Hinge(4, 3)
    s = 3 * torch.randn(5, 4)
    losses = [(1 - head.margins(s, torch.full((5,), c))).relu().sum(-1) for c in range(3)]
    totals = torch.exp(-2 * torch.stack(losses)).sum(0)
    assert bool(((totals - 1).abs() > 0.1).all())
    assert totals.std() > 1e-3
