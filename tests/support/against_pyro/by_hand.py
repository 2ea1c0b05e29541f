"""Training as Pyro's ``SVI`` does it, written out: the reference for everything that ours does."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO
from torch import Tensor

from inference.data.columns import epoch_order
from tests.programs import Made, Program

SEED, WEIGHTS, STEPS, RATE = 0, 7, 5, 1e-3
Values = dict[str, Tensor]


@dataclass
class Trained:
    """Losses in nats per datum, one a step, parameters (unconstrained) and buffers after them."""

    losses: list[float]
    parameters: Values
    buffers: Values


def fresh(program: Program, weights: int = WEIGHTS) -> Made:
    """The program built anew, in an empty parameter store."""
    pyro.clear_param_store()
    pyro.set_rng_seed(weights)
    return program.make()


def length(made: Made) -> int:
    """How many data there are."""
    return len(next(iter(made.data.values())))


def batches(program: Program, made: Made, seed: int = SEED) -> Iterator[Values]:
    """Epoch after epoch, the rows that ``fit`` promises for this seed."""
    for epoch in itertools.count():
        for index in epoch_order(length(made), program.batch_size, seed, epoch):
            yield {k: v if index is None else v[index] for k, v in made.data.items()}


def buffers(made: Made) -> Values:
    """Copies of the modules' buffers."""
    found = [buffer for module in made.modules for buffer in module.named_buffers()]
    return {f"{i}.{name}": buffer.clone() for i, (name, buffer) in enumerate(found)}


@contextmanager
def untouched(made: Made) -> Iterator[None]:
    """Whatever a run changes in buffers is put back."""
    living = [buffer for module in made.modules for buffer in module.buffers()]
    before = [buffer.clone() for buffer in living]
    yield
    with torch.no_grad():
        for buffer, value in zip(living, before, strict=True):
            buffer.copy_(value)


def leaves(made: Made, batch: Values) -> Values:
    """Name → unconstrained leaf of each parameter that one run of guide and model meets."""
    with untouched(made), torch.no_grad(), poutine.trace(param_only=True) as capture:
        guide_trace = poutine.trace(made.guide).get_trace(**batch)
        poutine.replay(made.model, trace=guide_trace)(**batch)
    return unconstrained(capture.trace)


def unconstrained(trace: poutine.Trace) -> Values:
    return {n: s["value"].unconstrained() for n, s in trace.nodes.items() if s["type"] == "param"}


def initialised(program: Program, made: Made, seed: int = SEED) -> Values:
    """The parameters' first values, as a run under this seed makes them; the seed set again."""
    pyro.set_rng_seed(seed)
    found = leaves(made, next(batches(program, made, seed)))
    pyro.set_rng_seed(seed)
    return found


def backward(elbo: ELBO, made: Made, batch: Values) -> float:
    """−ELBO of the batch, nats; its gradient is added to the parameters."""
    if not hasattr(elbo, "differentiable_loss"):
        return float(elbo.loss_and_grads(made.model, made.guide, **batch))
    loss = elbo.differentiable_loss(made.model, made.guide, **batch)
    loss.backward()
    return loss.item()


def step(elbo: ELBO, made: Made, batch: Values, rate: float = RATE) -> float:
    """One step of SGD on the loss per datum; the loss."""
    with poutine.trace(param_only=True) as capture:
        loss = backward(elbo, made, batch)
    count = length(made)
    with torch.no_grad():
        for leaf in {id(v): v for v in unconstrained(capture.trace).values()}.values():
            if leaf.grad is not None:
                leaf.add_(leaf.grad / count, alpha=-rate)
                leaf.grad = None
    return loss / count


def train(program: Program, made: Made, steps: int = STEPS, seed: int = SEED) -> Trained:
    """``steps`` steps of SGD from the first values."""
    initialised(program, made, seed)
    elbo, seen = program.elbo(), list(itertools.islice(batches(program, made, seed), steps))
    losses = [step(elbo, made, batch) for batch in seen]
    return snapshot(program, made, losses, seen)


def snapshot(program: Program, made: Made, losses: list[float], seen: list[Values]) -> Trained:
    """Copies of what the program is now, met on the batches that it has seen."""
    kept = buffers(made)
    found: Values = {}
    for batch in seen:
        found |= leaves(made, batch)
    return Trained(losses, {n: v.detach().clone() for n, v in found.items()}, kept)
