"""One seed's training, all of whose state can be saved after any step and taken up bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from inference.data.columns import Batch, Columns, Streamed
from inference.engine.gradient.averaged import AveragedGradient, living
from inference.engine.gradient.plain import CapturedGradient, Gradient
from inference.engine.processes import Index, Processes, Together
from inference.engine.program import nonfinite
from inference.engine.program.objective import bound
from inference.engine.program.program import Program
from inference.engine.program.terms import Terms
from inference.engine.training.interrupts import watch
from inference.engine.training.recorder import Recorder
from inference.engine.training.schedules import Schedule, constant
from inference.engine.training.validation import HeldOut, held_out_bounds
from inference.util import rng
from inference.util.errors import UserError
from inference.util.progress import Bar

OptimizerFactory = Callable[[list[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Plan:
    """What a training does; the same for all its seeds.

    Attributes:
        steps: optimiser steps in all.
        steps_per_epoch: batches in one pass over the data.
        batch_size: rows in a batch (None: all of them).
        device, dtype: where the program lives and in which floating type.
        schedule: factor of the learning rate over progress in [0, 1).
        anneal: weight β of the KL over progress.
        clip_norm: largest global norm of the gradient (None: no clipping).
        patience: evaluations on held-out data without improvement before stopping.
        autocast: run the estimator in bfloat16 where that is safe (parameters stay as they are).
        compile: capture the step as a graph and compile it.
    """

    steps: int
    steps_per_epoch: int
    batch_size: int | None
    device: torch.device
    dtype: torch.dtype
    schedule: Schedule = constant
    anneal: Schedule = constant
    clip_norm: float | None = None
    patience: int | None = None
    autocast: bool = False
    compile: bool = False

    @property
    def annealed(self) -> bool:
        """Whether the objective ever differs from the ELBO."""
        return self.anneal is not constant

    def precision(self) -> AbstractContextManager:
        """The context that an estimator runs in."""
        if self.autocast:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()


class Trainer:
    """Takes a program step by step through its data (within the program's ``scope``).

    Args:
        program: initialised by the constructor.
        estimator: the ELBO to follow.
        optimizer: parameters → torch optimiser.
        data, valid: training data, and held-out data evaluated after each epoch.
        plan: what to do.
        seed: of initial values, noise and the order of data.
        processes: who share each batch; this one alone unless given.
    """

    def __init__(
        self,
        program: Program,
        estimator: ELBO,
        optimizer: OptimizerFactory,
        data: Columns | Streamed,
        valid: Columns | Streamed | None,
        plan: Plan,
        seed: int,
        processes: Processes | None = None,
    ) -> None:
        self.program, self.data, self.valid = program, data, valid
        self.plan, self.seed = plan, seed
        self.processes = processes or Processes(plan.device)
        if isinstance(estimator, nn.Module):
            estimator.to(plan.device, plan.dtype)
        self.terms = Terms(estimator)
        self.estimator = self.terms.estimator
        pyro.set_rng_seed(seed)
        first = next(iter(data.batches(self._order(0)[:1])))
        self._initialise(first)
        self.gradient = self._gradient()
        self.optimizer = optimizer(self.gradient.parameters)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.terms.probe(torch.tensor(self._probe(first), device=plan.device))
        if not all(self.processes.gather(self.terms.names)):
            self.terms.names = ()
        self._agree(self.gradient.parameters)
        extra = ("beta",) if plan.annealed else ()
        self.recorder = Recorder(("elbo", *self.terms.names, "grad_norm", *extra), plan.steps)
        self.held_out = HeldOut(plan.patience)
        self.best: dict[str, Any] | None = None
        self.step, self.epoch, self.finished = 0, 0, False  # epochs that are evaluated, too
        rng.seed(seed, rank=self.processes.rank)

    def run(self, bar: Bar, save: Callable[[], None], every: float) -> None:
        """Train to the end, calling ``save`` every ``every`` seconds and when interrupted."""
        bar.start = self.step
        self.gradient.announce = lambda note: bar.update(self.step, note)
        with watch(save, every, self.processes) as save_if_due:
            while not self.finished:
                for batch in self._batches():
                    self._take_step(batch)
                    save_if_due()
                    if bar.due:
                        bar.update(self.step, self._note())
                self._end_epoch()
        bar.update(self.step, self._note())

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimiser, randomness, place in the data, trace: all that a step changes."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "finished": self.finished,
            "program": self.program.state_dict(),
            "estimator": self._module_state(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.processes.gather(rng.get_state()),
            "recorder": self.recorder.state_dict(),
            "held_out": self.held_out.state_dict(),
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where ``state_dict`` left off: bit for bit, if there are as many processes."""
        self.program.load_state_dict(state["program"])
        if isinstance(self.estimator, nn.Module):
            self.estimator.load_state_dict(state["estimator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.recorder.load_state_dict(state["recorder"], self.plan.device)
        self.held_out.load_state_dict(state["held_out"])
        self.best = state["best"]
        self.step, self.epoch, self.finished = state["step"], state["epoch"], state["finished"]
        if len(state["rng"]) == self.processes.size:
            rng.set_state(state["rng"][self.processes.rank])
        else:
            rng.seed(self.seed, self.step, self.processes.rank)

    def _initialise(self, first: Batch) -> None:
        try:
            self.program.initialise(first, len(self.data))
        except (RuntimeError, ValueError, IndexError) as error:
            known = isinstance(error, UserError) or self.plan.batch_size is not None
            if known or self.processes.size == 1:
                raise
            raise UserError(
                f"the program fails on {len(next(iter(first.values())))} of the {len(self.data)} "
                f"rows, one process's part ({str(error).splitlines()[0]}): put the data's sites in "
                f'pyro.plate("data", {len(self.data)}, subsample=column), or train in one process'
            ) from error

    def _gradient(self) -> Gradient | AveragedGradient:
        kind = CapturedGradient if self.plan.compile else Gradient
        norm = self.plan.clip_norm
        if not isinstance(self.processes, Together):
            return kind(self.program, self.terms, norm, self.plan.precision)
        own = kind(self.program, self.terms, None, self.plan.precision)
        return AveragedGradient(own, norm, self.processes)

    def _agree(self, tensors: Iterable[Tensor] = ()) -> None:
        """Let the first process's tensors be everybody's, and the state beside parameters, too."""
        state = [tensor for _, tensor in living(self.program, self.estimator)]
        self.processes.spread([*tensors, *state])

    def _take_step(self, batch: Batch) -> None:
        progress = self.step / self.plan.steps
        beta = self.plan.anneal(progress)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.plan.schedule(progress)
        loss, norm, terms = self.gradient(batch, beta)
        self._refuse_nonfinite(loss, norm, batch)
        self.optimizer.step()
        self.step += 1
        self._record(loss, norm, terms, batch, beta)

    def _refuse_nonfinite(self, loss: Tensor, norm: Tensor, batch: Batch) -> None:
        if loss.device.type == "cpu" and not math.isfinite(loss.item() + norm.item()):
            raise nonfinite.explain(self.program, batch, self.step + 1, self.processes)

    def _record(self, loss: Tensor, norm: Tensor, terms: Tensor, batch: Batch, beta: float) -> None:
        self.recorder.append(self.row(loss, norm, terms, beta))
        if loss.device.type != "cpu" and self.step % self.recorder.block == 0:
            self._check_block(batch)

    def row(self, loss: Tensor, norm: Tensor, terms: Tensor, beta: float) -> Tensor:
        """(…, names) what is recorded of a step: loss and norm (…,), terms (…, terms)."""
        elbo = -loss
        if beta != 1:  # the objective weighted the KL: give back the ELBO itself, nan if unknown
            is_kl = [name.startswith("kl") for name in self.terms.names]
            at = torch.tensor(is_kl, dtype=torch.bool, device=terms.device)
            terms = torch.where(at, terms / beta, terms)
            elbo = elbo - (1 - beta) * terms.where(at, 0.0).sum(-1) if is_kl else elbo * math.nan
        extra = [loss.new_full((*loss.shape, 1), beta)] if self.plan.annealed else []
        return torch.cat([elbo[..., None], terms, norm[..., None].to(loss), *extra], -1)

    def _check_block(self, batch: Batch) -> None:
        if not self.recorder.rows()[-1, self.recorder.names.index("grad_norm")].isfinite():
            raise nonfinite.explain(self.program, batch, self.step, self.processes)

    def _end_epoch(self) -> None:
        if self.valid is not None:
            self._evaluate(self.valid)
        self.epoch += 1
        self.finished = self.step >= self.plan.steps or self.held_out.exhausted
        if self.finished and self.best is not None:
            self.program.load_state_dict(self.best)

    def _evaluate(self, valid: Columns | Streamed) -> None:
        with self.plan.precision():
            bounds, weights = held_out_bounds(
                self.estimator, self.program, valid, self.plan.batch_size, self.processes
            )
        self.terms.take()
        self._agree()
        if self.held_out.observe(self.step, bounds, weights) and self.plan.patience is not None:
            self.best = self.program.state_dict()

    def _order(self, epoch: int) -> list[Index]:
        """This process's rows of each batch."""
        order = self.data.order(self.plan.batch_size, self.seed, epoch)
        return [self.processes.part(index, len(self.data)) for index in order]

    def _batches(self) -> Iterator[Batch]:
        return self.data.batches(self._remaining())

    def _remaining(self) -> list[Index]:
        position = self.step - self.epoch * self.plan.steps_per_epoch
        return self._order(self.epoch)[position:][: self.plan.steps - self.step]

    def _probe(self, batch: Batch) -> float:
        with self.plan.precision():
            return -bound(self.estimator, self.program, batch) * self.program.datum_count(batch)

    def _module_state(self) -> dict[str, Any]:
        return self.estimator.state_dict() if isinstance(self.estimator, nn.Module) else {}

    def _note(self) -> str:
        rows = self.recorder.rows()
        if not len(rows):
            return ""
        note = f"ELBO {rows[-50:, 0].mean():.2f}"
        if self.held_out.history:
            note += f", held out {self.held_out.history[-1][1]:.2f}"
        return note
