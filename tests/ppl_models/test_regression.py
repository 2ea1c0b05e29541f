"""The regressions' negative log-likelihoods are the costs that everybody knows."""

import math

import pytest
import torch
from pyro.infer import Trace_ELBO
from torch.nn import functional as F

from guides.empty import Empty
from inference import fit
from ppl_models.regression import GaussianRegression, LogisticRegression, SoftmaxRegression

N = 12


def cost(model, x, y):
    return Trace_ELBO().differentiable_loss(model, Empty(), x, y)


def gradients(loss, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def bernoulli(model, x, y):
    return F.binary_cross_entropy_with_logits(model.linear(x)[:, 0], y, reduction="sum")


def categorical(model, x, y):
    return F.cross_entropy(model.linear(x), y, reduction="sum")


def squared(model, x, y):
    error = F.mse_loss(model.linear(x)[:, 0], y, reduction="sum")
    return error / (2 * 0.7**2) + N * math.log(0.7 * (2 * math.pi) ** 0.5)


@pytest.mark.parametrize(
    ("build", "labels", "known"),
    [
        (lambda: LogisticRegression(3, N), torch.bernoulli, bernoulli),
        (lambda: SoftmaxRegression(3, 4, N), lambda u: (4 * u).long(), categorical),
        (lambda: GaussianRegression(3, N, 0.7), lambda u: 5 * u, squared),
    ],
)
def test_the_cost_and_its_gradient(build, labels, known):
    model, x, y = build(), torch.randn(N, 3), labels(torch.rand(N))
    ours, theirs = cost(model, x, y), known(model, x, y)
    assert torch.allclose(ours, theirs, rtol=1e-12)
    assert torch.allclose(gradients(ours, model), gradients(theirs, model), rtol=1e-10)


def test_fit_finds_the_least_squares():
    x = torch.randn(200, 3)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.3 + 0.1 * torch.randn(200)
    model = GaussianRegression(3, 200)
    fit(
        model,
        Empty(),
        {"x": x, "y": y},
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
        steps=800,
        precision="float64",
        progress=False,
    )
    design = torch.cat([x, torch.ones(200, 1)], 1)
    best = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    found = torch.cat([model.linear.weight[0], model.linear.bias]).detach()
    assert torch.allclose(found, best, atol=1e-6)
