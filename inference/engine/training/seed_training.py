"""One seed's training: all of its state, which can be saved and restored after any step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import pyro
import torch
from pyro.infer import (
    ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    Trace_MMD,
    TraceGraph_ELBO,
)
from torch import Tensor, nn

from inference.data.columns import Batch, Columns, Streamed
from inference.engine.gradient.averaged import (
    AveragedGradient,
    mutable_state,
    refuse_averages,
    refuse_other_parameters,
)
from inference.engine.gradient.captured import CapturedGradient
from inference.engine.gradient.plain import PlainGradient
from inference.engine.gradient.protocol import Gradient
from inference.engine.processes import DistributedProcesses, Index, Processes
from inference.engine.program.nonfinite import explained
from inference.engine.program.objective import bound
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from inference.engine.training.plan import Plan
from inference.engine.training.records.convergence import Iterates
from inference.engine.training.records.recorder import Recorder
from inference.engine.training.validation import HeldOut, held_out_bounds, naming_other_columns
from inference.util import rng
from inference.util.errors import UserError

GradientT = TypeVar("GradientT", bound=PlainGradient)

NOT_SUMMING = (Trace_ELBO, TraceGraph_ELBO, RenyiELBO, ReweightedWakeSleep, Trace_MMD)


class SeedTraining:
    """The state of one seed's training, but for the optimiser's, which the loop holds.

    The constructor initialises the program, within its ``scope``, with the seed's random numbers.

    Args:
        program: to be trained.
        estimator: the ELBO to maximise.
        data, valid: training data, and held-out data evaluated after each epoch (or None).
        plan: the training's options.
        seed: of initial values, noise and the order of data.
        processes: that share each batch; a single process unless given.

    Attributes:
        terms: records the estimator's terms.
        recorder, held_out: records of the steps, and the held-out bounds.
        iterates: record of the parameters, if training ends when they have settled.
        example: two rows of the first batch, on which the program can be initialised again.
        best: the program's state at the best held-out bound, if training may stop early.
        last: its state at the end, if the best has taken its place.
        step, epoch, finished, stream: progress (in evaluated epochs), and its random numbers.
    """

    def __init__(
        self,
        program: Program,
        estimator: ELBO,
        *,
        data: Columns | Streamed,
        valid: Columns | Streamed | None = None,
        plan: Plan,
        seed: int,
        processes: Processes | None = None,
    ) -> None:
        self.program, self.data, self.valid = program, data, valid
        self.plan, self.seed = plan, seed
        self.processes = processes or Processes(plan.device)
        self.stream: AbstractContextManager[Any] = nullcontext()  # this process's
        if isinstance(estimator, nn.Module):
            estimator.to(plan.device, plan.dtype)
        self.terms = Terms(estimator)
        self.estimator = self.terms.estimator
        self.best: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None
        self.step, self.epoch, self.finished = 0, 0, False
        self.held_out = HeldOut(plan.patience)
        self.iterates = Iterates() if plan.until else None
        pyro.set_rng_seed(seed)
        first = next(iter(data.batches(self._order(0)[:1])))
        self.example = {name: column[:2].cpu().clone() for name, column in first.items()}
        initialise(program, first, plan, self.processes)
        refuse_undrawn(estimator, program)
        self._name_terms(first)
        names = ("elbo", *self.terms.names, "grad_norm", *["beta"] * plan.annealed)
        self.recorder = Recorder(names)
        rng.seed(seed, rank=self.processes.rank)

    def gradient(self) -> Gradient:
        """A new object that computes the gradient of a batch."""
        kind = CapturedGradient if self.plan.compile else PlainGradient
        if not isinstance(self.processes, DistributedProcesses):
            return own_gradient(self, kind, self.plan.clip_norm)
        refuse_averages(self.estimator, self.plan.batch_sizes, self.processes.size)
        own = own_gradient(self, kind, None)
        refuse_other_parameters(self.processes.gather(list(own.named)))
        self._broadcast(own.named.values())
        return AveragedGradient(own, self.plan.clip_norm, self.processes)

    def keep_stream(self) -> rng.Stream:
        """Give the seed a random stream of its own, which continues the current one."""
        self.stream = stream = rng.Stream(self.plan.device)
        return stream

    @contextmanager
    def within(self) -> Iterator[None]:
        """Enter the program's scope and the seed's random stream."""
        with self.program.scope(), self.stream:
            yield

    def batches(self) -> Iterator[Batch]:
        """The remaining batches of the epoch, or of the plan."""
        return self.data.batches(self.remaining())

    def remaining(self) -> list[Index]:
        """This process's rows of each of these batches."""
        position = self.step - self.epoch * self.plan.steps_per_epoch
        return self._order(self.epoch)[position:][: self.plan.steps - self.step]

    def record(self, step: int, row: Tensor) -> None:
        """Count a step, with its row of the record (names,)."""
        self.step = step
        self.recorder.append(row)
        if self.iterates is not None:
            self.iterates.observe(self.program.parameters, step)

    def end_epoch(self) -> None:
        """Evaluate, and decide whether to go on."""
        if self.valid is not None:
            self.evaluate(self.valid)
        self.epoch += 1
        settled = self.iterates is not None and self.iterates.settled(self.step)
        self.finished = self.step >= self.plan.steps or self.held_out.exhausted or settled

    def evaluate(self, valid: Columns | Streamed) -> None:
        """Record the held-out bound; keep the program's state if it is the best so far."""
        with self.plan.autocast(), naming_other_columns("the held-out data", valid, self.data):
            fixed = self.plan.batch_size, self.processes
            bounds, weights = held_out_bounds(self.estimator, self.program, valid, *fixed)
        self.terms.take()
        self._broadcast()
        if self.held_out.observe(self.step, bounds, weights) and self.plan.patience is not None:
            self.best = self.program.state_dict()

    def metrics(self) -> dict[str, float]:
        """Means of what the last epoch's steps recorded, and the last held-out bound."""
        rows = self.recorder.fetch()[-max(1, self.plan.steps_per_epoch // self.recorder.window) :]
        found = dict(zip(self.recorder.names, rows.mean(0).tolist(), strict=False))
        if self.held_out.history:
            found["held_out_elbo"] = self.held_out.history[-1][1]
        return found

    def restore_best(self) -> None:
        """Restore the best parameters, or the mean that has settled; the last are kept, too."""
        if self.best is not None:
            self.last = self.program.state_dict()
            self.program.load_state_dict(self.best)
        elif self.iterates is not None and self.iterates.mean:
            self.last = self.program.state_dict()
            self.iterates.put_mean(self.program.parameters)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, random state, position in the data, records; a collective call."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "finished": self.finished,
            "program": self.program.state_dict(),
            "estimator": module_state(self.estimator),
            "rng": self.processes.gather(rng.get_state()),
            "recorder": self.recorder.state_dict(),
            "held_out": self.held_out.state_dict(),
            "iterates": self.iterates and self.iterates.state_dict(),
            "best": self.best,
            "last": self.last,
            "steps": self.plan.steps,
            "example": self.example,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a ``state_dict``; bit for bit if the number of processes is the same.

        A finished training goes on from its end if the plan has more steps than it had.
        """
        self.held_out.load_state_dict(state["held_out"])
        if self.iterates is not None:
            self.iterates.load_state_dict(state["iterates"], self.plan.device)
        self.step, self.epoch, self.finished = state["step"], state["epoch"], state["finished"]
        self.best, self.last = state["best"], state["last"]
        at_its_end = self.held_out.exhausted or (self.iterates is not None and self.iterates.mean)
        if self.finished and self.plan.steps > state["steps"] and not at_its_end:
            self._reopen()
        reopened = state["finished"] and not self.finished
        self.program.load_state_dict((reopened and state["last"]) or state["program"])
        if isinstance(self.estimator, nn.Module):
            self.estimator.load_state_dict(state["estimator"])
        self.recorder.load_state_dict(state["recorder"], self.plan.device)
        if len(state["rng"]) == self.processes.size:
            rng.set_state(state["rng"][self.processes.rank])
        else:
            rng.seed(self.seed, self.step, self.processes.rank)

    def _reopen(self) -> None:
        """Go on after the last step.

        Raises:
            UserError: that was within an epoch, whose end has been evaluated.
        """
        self.finished, self.last = False, None
        self.epoch, within = divmod(self.step, self.plan.steps_per_epoch)
        if within and self.valid is not None:
            raise UserError(
                f"the fit ended within an epoch, after {self.step} steps of which an epoch has "
                f"{self.plan.steps_per_epoch}, and has evaluated the held-out data there: only "
                "whole epochs can be gone on with"
            )

    def _name_terms(self, first: Batch) -> None:
        """Find the names of the ELBO's terms; none if any process finds none."""
        with self.plan.autocast():
            loss = -bound(self.estimator, self.program, first) * self.program.datum_count(first)
        self.terms.probe(torch.tensor(loss, device=self.plan.device))
        if not all(self.processes.gather(self.terms.names)):
            self.terms.names = ()
        self._broadcast()

    def _broadcast(self, tensors: Iterable[Tensor] = ()) -> None:
        """Copy rank 0's parameters and other state to all processes."""
        state = [tensor for _, tensor in mutable_state(self.program, self.estimator)]
        self.processes.broadcast([*tensors, *state])

    def _order(self, epoch: int) -> list[Index]:
        """This process's rows of each batch."""
        order = self.data.order(self.plan.batch_size, self.seed, epoch)
        return [self.processes.shard(index, len(self.data)) for index in order]


def own_gradient(
    training: SeedTraining, kind: type[GradientT], clip_norm: float | None
) -> GradientT:
    """This process's gradient of the seed's program."""
    return kind(training.program, training.terms, clip_norm, training.plan.autocast)


def refuse_undrawn(estimator: ELBO, program: Program) -> None:
    """Raise a ``UserError`` if the guide does not draw a latent and the ELBO does not sum it out.

    Pyro's other ELBOs draw it from the prior and keep its log p, without a log q.
    """
    inner = getattr(estimator, "elbo", estimator)
    if program.undrawn and isinstance(inner, NOT_SUMMING):
        raise UserError(
            f"latent site {program.undrawn[0]!r} of the model is not in the guide but marked to be "
            f"summed out, which {type(inner).__name__} does not: give "
            f"estimator=TraceEnum_ELBO(max_plate_nesting={program.nesting}), or draw it in the "
            "guide"
        )


def initialise(program: Program, first: Batch, plan: Plan, processes: Processes) -> None:
    """``program.initialise`` on the first batch.

    Raises:
        UserError: as ``Program.initialise``; or the program fails on one process's shard of the
            data.
    """
    try:
        with explained(program, first):
            program.initialise(first, plan.rows)
    except (RuntimeError, ValueError, IndexError) as error:
        known = isinstance(error, UserError) or plan.batch_size is not None
        if known or processes.size == 1:
            raise
        raise UserError(
            f"the program fails on {len(next(iter(first.values())))} of the {plan.rows} "
            f"rows, one process's part ({str(error).splitlines()[0]}): put the data's sites in "
            f'pyro.plate("data", {plan.rows}, subsample=column), or train in one process'
        ) from error


def module_state(estimator: ELBO) -> dict[str, Any]:
    """The parameters and buffers of an estimator that is a module."""
    return estimator.state_dict() if isinstance(estimator, nn.Module) else {}
