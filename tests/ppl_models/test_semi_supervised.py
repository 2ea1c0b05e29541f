"""M2: the label summed out is the expectation of the label drawn, and both are bounds."""

import pyro
import pytest
import torch
from torch import nn

from guides.semi_supervised import EveryLabel, LabelThenCode
from inference.estimators import LeaveOneOut, Pathwise, ScoreFunction
from ppl_models.label_heads import NO_LABEL
from ppl_models.likelihoods import Bernoulli
from ppl_models.networks import mlp
from ppl_models.semi_supervised import M2, SummedM2

B, D, CLASSES, ALPHA = 3, 4, 3, 0.7
generator = torch.Generator().manual_seed(0)
X = (torch.rand(B, D, generator=generator, dtype=torch.double) > 0.5).double()
Y = torch.tensor([2, NO_LABEL, NO_LABEL])


def programs(kind, guide, size=B, alpha=ALPHA):
    torch.manual_seed(0)
    networks = (mlp([CLASSES + 1, D]), mlp([D, CLASSES], nn.Tanh), Bernoulli())
    model = kind(*networks, 1, size, alpha).double()
    its = guide(model, mlp([CLASSES + D, 2])).double()
    return model, its


GRID = torch.linspace(-9, 9, 4001, dtype=torch.double)


def joint(model):
    """(C, B) log p(x, y), z by the trapezoidal rule."""
    labels = torch.eye(CLASSES, dtype=torch.double)
    both = torch.cat(
        [labels[:, None].expand(-1, len(GRID), -1), GRID[None, :, None].expand(CLASSES, -1, -1)], -1
    )
    logits = model.decoder(both)[:, :, None]  # (C, grid, 1, D)
    said = torch.distributions.Bernoulli(logits=logits).log_prob(X).sum(-1)
    density = torch.distributions.Normal(0.0, 1.0).log_prob(GRID)[None, :, None]
    mass = torch.trapezoid((said + density).exp(), GRID, dim=1)
    return mass.log() - torch.tensor(float(CLASSES)).log()


def bounds(kind, guide, estimator, batches=40, copies=500):
    """(batches,) the whole loss of these rows, each the mean of some draws."""
    model, its = programs(kind, guide, B * copies)
    x, y = X.repeat(copies, 1), Y.repeat(copies)
    pyro.set_rng_seed(0)
    with torch.no_grad():
        losses = [estimator.differentiable_loss(model, its, x, y) for _ in range(batches)]
    return -torch.stack(losses) / copies


def test_both_have_one_mean_and_it_is_below_the_evidence():
    summed = bounds(SummedM2, EveryLabel, Pathwise(max_plate_nesting=2))
    drawn = bounds(M2, LabelThenCode, ScoreFunction(1, max_plate_nesting=1))
    error = (summed.var() / len(summed) + drawn.var() / len(drawn)).sqrt()
    assert (summed.mean() - drawn.mean()).abs() < 4.5 * error
    assert summed.std() < drawn.std()
    model, _ = programs(SummedM2, EveryLabel)
    table = joint(model)
    classified = model.classifier(X).log_softmax(-1)[0, Y[0]]
    evidence = table[Y[0], 0] + table[:, 1:].logsumexp(0).sum() + ALPHA * classified
    assert summed.mean() + 4.5 * summed.std() / len(summed) ** 0.5 < evidence


def gradients(kind, guide, estimator, batches=60, copies=100):
    model, its = programs(kind, guide, B * copies)
    parameters = [*model.parameters(), *its.encoder.parameters()]
    x, y = X.repeat(copies, 1), Y.repeat(copies)
    found = []
    for _ in range(batches):
        loss = estimator.differentiable_loss(model, its, x, y) / copies
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(found)


def test_both_have_one_gradient():
    pyro.set_rng_seed(0)
    summed = gradients(SummedM2, EveryLabel, Pathwise(max_plate_nesting=2))
    drawn = gradients(
        M2, LabelThenCode, LeaveOneOut(2, vectorize_particles=True, max_plate_nesting=1)
    )
    error = (summed.var(0) / len(summed) + drawn.var(0) / len(drawn)).sqrt() + 1e-9
    z = (summed.mean(0) - drawn.mean(0)) / error
    assert bool((z.abs() < 6).all()), z.abs().max()


def test_a_known_label_is_the_only_one_that_counts():
    """Of the first row, whose label is 2, codes of other labels have no gradient."""
    model, its = programs(SummedM2, EveryLabel)
    pyro.set_rng_seed(0)
    y = Y[:1]
    model.size = 1
    loss = Pathwise(max_plate_nesting=2).differentiable_loss(model, its, X[:1], y)
    rows = torch.autograd.grad(loss, its.encoder[0].weight)[0][:, :CLASSES]
    assert bool((rows[:, :2].abs() < 1e-20).all())
    assert bool((rows[:, 2].abs() > 1e-4).any())


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_alpha_weighs_the_classifier_on_labels(alpha):
    values = []
    for a in (0.0, alpha):
        model, its = programs(SummedM2, EveryLabel, alpha=a)
        pyro.set_rng_seed(0)
        values.append(-Pathwise(max_plate_nesting=2).differentiable_loss(model, its, X, Y))
    said = model.classifier(X).log_softmax(-1)[0, Y[0]]
    torch.testing.assert_close(values[1] - values[0], alpha * said)
