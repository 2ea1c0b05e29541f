"""The gradient of a batch split among several processes: the average over processes."""

from __future__ import annotations

from collections.abc import Iterable

import pyro
import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from inference.data.columns import Batch
from inference.engine.gradient.plain import PlainGradient, clip_gradients
from inference.engine.gradient.protocol import Announce, StepResult
from inference.engine.processes import DistributedProcesses
from inference.engine.program.program import Program
from inference.engine.sparse_rows import as_dense
from inference.estimators.baselines import MovingAverage
from inference.util.errors import UserError


class AveragedGradient:
    """The gradient of the whole batch, the same in each process.

    Loss, terms and gradients are per datum, so those of the whole batch are the means of the
    parts', weighted by rows.  Other state that a step changes (averages of baselines, running
    statistics) is linear in the batch: the whole batch's change is the mean of the parts' changes.
    One all-reduce sums everything.

    Args:
        gradient: of this process's rows, unclipped.
        clip_norm: largest norm over all of the program's parameters; None: no clipping.
        processes: which share the batch.
    """

    def __init__(
        self, gradient: PlainGradient, clip_norm: float | None, processes: DistributedProcesses
    ) -> None:
        self.gradient, self.clip_norm, self.processes = gradient, clip_norm, processes
        self.named = gradient.named
        gradient.program.fixed_by = "training in several processes"
        self.program, self.estimator = gradient.program, gradient.terms.estimator

    @property
    def announce(self) -> Announce:
        """Called with a message before slow work."""
        return self.gradient.announce

    @announce.setter
    def announce(self, tell: Announce) -> None:
        self.gradient.announce = tell

    def __call__(self, batch: Batch, beta: float = 1.0) -> StepResult:
        """The gradient of the whole batch, from this process's rows; a collective call."""
        before = {n: tensor.clone() for n, tensor in mutable_state(self.program, self.estimator)}
        result = self.gradient(batch, beta)
        _refuse_stored_baselines()
        after = dict(mutable_state(self.program, self.estimator))
        changes = [t - before[n] if n in before else t for n, t in after.items()]
        gradients = [
            torch.zeros_like(p) if p.grad is None else as_dense(p.grad) for p in self.named.values()
        ]
        used = result.loss.new_tensor([p.grad is not None for p in self.named.values()])
        loss, terms, used, *means = self.processes.average(
            [result.loss, result.terms, used, *gradients, *changes],
            len(next(iter(batch.values()))),
        )
        self._put_gradients(means[: len(gradients)], used)
        for (name, tensor), change in zip(after.items(), means[len(gradients) :], strict=True):
            tensor.copy_(before[name] + change if name in before else change)
        norm = clip_gradients(list(self.program.parameters.values()), self.clip_norm)
        return StepResult(loss, norm, terms)

    def _put_gradients(self, means: list[Tensor], used: Tensor) -> None:
        """Write the gradients; parameters that no process used keep None."""
        idle = any(p.grad is None for p in self.named.values())
        kept = used.tolist() if idle else [1.0] * len(means)
        for parameter, mean, share in zip(self.named.values(), means, kept, strict=True):
            parameter.grad = strided_as(parameter, mean) if share else None


def strided_as(parameter: Tensor, values: Tensor) -> Tensor:
    """The values with the parameter's strides, which fused optimisers assume."""
    if parameter.is_contiguous():
        return values
    return torch.empty_like(parameter, requires_grad=False).copy_(values)


def mutable_state(program: Program, estimator: ELBO) -> list[tuple[str, Tensor]]:
    """The tensors, other than parameters, that a step changes, by name."""
    found = list(program.buffers())
    for name, part in estimator.named_modules() if isinstance(estimator, nn.Module) else ():
        found += [(f"estimator.{name}.{n}", b) for n, b in part.named_buffers(recurse=False)]
        if isinstance(part, MovingAverage):
            found += [(f"estimator.{name} {site}", a) for site, a in part.averages.items()]
    return [(name, tensor) for name, tensor in found if tensor.dtype != torch.bool]


def refuse_other_parameters(by_rank: list[list[str]]) -> None:
    """Raise a ``UserError`` if processes have other parameters, of which these are the names."""
    for names in by_rank:
        if other := set(names) ^ set(by_rank[0]):
            raise UserError(
                f"parameter {min(other)!r} appears in the first rows of one process and not of "
                "another: call pyro.param for it in every batch, or train in one process"
            )


def refuse_averages(estimator: ELBO, sizes: Iterable[int], count: int) -> None:
    """Raise a ``UserError`` for averages of signals that shards do not have in common.

    A shard's signals are scaled to the whole data by its own rows, so that averages over shards are
    those of the whole batch, by the same factor for all, only if all are of one size; and a
    standard deviation that is limited from below has no such factor.

    Args:
        estimator: of each process.
        sizes: of the batches.
        count: of processes.
    """
    parts = list(estimator.modules()) if isinstance(estimator, nn.Module) else []
    if any(getattr(part, "squares", None) is not None for part in parts):
        raise UserError(
            "normalise divides a signal by its spread within one process: leave it out, or train "
            "in one process"
        )
    uneven = sorted(size for size in sizes if size % count)
    if uneven and any(isinstance(part, MovingAverage) for part in parts):
        raise UserError(
            f"a moving average as baseline needs batches that {count} processes share evenly, and "
            f"one has {uneven[0]} rows: choose another batch_size, or train in one process"
        )


def _refuse_stored_baselines() -> None:
    if stored := [n for n in pyro.get_param_store() if n.startswith("__baseline_avg")]:
        site = stored[0].removeprefix("__baseline_avg_downstream_cost_")
        raise UserError(
            f"the decaying average of site {site!r} is kept in Pyro's parameter store, a number "
            "for each row of a batch, which several processes cannot share: use "
            "ScoreFunction(baseline=MovingAverage())"
        )
