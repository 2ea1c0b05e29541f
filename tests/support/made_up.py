"""Estimators made up for the audit: their gradients are drawn from a table, or are always one."""

import pyro
import torch
from pyro import poutine

from inference.estimators.base import Estimator

PARTICLES = 10_000


class MadeUp(Estimator):
    """``draw`` gives a gradient of the loss, by parameter."""

    def __init__(self):
        super().__init__()

    def estimate(self, programs, draws):
        raise NotImplementedError

    def differentiable_loss(self, model, guide, *args, **kwargs):
        leaves = pyro.get_param_store()._params
        return sum((gradient * leaves[name]).sum() for name, gradient in self.draw().items())


class Around(MadeUp):
    """Draws about ``scale`` × a gradient, with normal noise of ``noise`` of its norm."""

    def __init__(self, gradient, scale=1.0, noise=0.0):
        super().__init__()
        self.gradient, self.scale = gradient, scale
        flat = torch.cat([g.flatten() for g in gradient.values()])
        self.noise = noise * flat.norm() / len(flat) ** 0.5

    def draw(self):
        return {
            name: self.scale * g + self.noise * torch.randn_like(g)
            for name, g in self.gradient.items()
        }


class FromTable(MadeUp):
    """``scale`` × the gradient of an estimator of ``PARTICLES`` particles.

    Args:
        table: by parameter, (S, …) its gradient at each assignment of the latents.
        probabilities: (S,) of the assignments.
    """

    def __init__(self, table, probabilities, scale=1.0):
        super().__init__()
        self.table, self.probabilities, self.scale = table, probabilities, scale

    def draw(self):
        drawn = torch.multinomial(self.probabilities, PARTICLES, replacement=True)
        return {name: self.scale * g[drawn].mean(0) for name, g in self.table.items()}


def table_of(program, estimator):
    """By parameter, (S, …) its gradient at each assignment; (S,) the guide's probabilities.

    The program is a discrete one of ``tests.support.random_programs``.
    """
    found, probabilities, data = [], [], program.data
    with pyro.get_param_store().scope():
        leaves = pyro.get_param_store()._params
        drawn = poutine.trace(program.guide).get_trace(**data)
        for values in program.assignments():
            given = drawn.copy()
            for name, value in values.items():
                given.nodes[name]["value"] = value
            guide = poutine.replay(program.guide, trace=given)
            probabilities.append(poutine.trace(guide).get_trace(**data).log_prob_sum().exp())
            loss = estimator.differentiable_loss(program.model, guide, **data)
            of = list(leaves.values())
            found.append(torch.autograd.grad(loss, of, materialize_grads=True))
        names = list(leaves)
    columns = map(torch.stack, zip(*found, strict=True))
    return dict(zip(names, columns, strict=True)), torch.stack(probabilities).detach()
