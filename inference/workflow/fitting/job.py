"""A fit: what the trainings of all its seeds share, and how they are run to their end."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyro
from pyro.infer import ELBO

from inference.data.columns import Columns, Streamed
from inference.engine.gradient.all_seeds import AllSeedsGradient
from inference.engine.gradient.captured import CapturedGradient
from inference.engine.optimizers import Optimizable
from inference.engine.processes import Processes
from inference.engine.program.copies import Sent, copies, refuse_shared, reset_modules
from inference.engine.program.program import Program
from inference.engine.training.directory import RunDirectory
from inference.engine.training.identity import bound_of
from inference.engine.training.loop import TrainingRun
from inference.engine.training.plan import Plan
from inference.engine.training.seed_training import SeedTraining, own_gradient
from inference.results.draws.names import warn_of_changed_names
from inference.results.run import Run
from inference.util import rng
from inference.util.progress import Bar
from inference.workflow.fitting.said import said
from inference.workflow.fitting.trace import trace_of
from inference.workflow.workers import side_by_side

CHOICE = "choice"  # the entry of ``config.json`` that says which estimator was chosen
Callback = Callable[[int, int, dict[str, float], Run], object]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all seeds of a fit share, in this process and in workers.

    Attributes:
        sent: model and guide.
        seeds: all of them.
        estimator: of which each seed has a copy; before one is chosen, all of them by name.
        optimizer: see ``fit``.
        plan: the options of a training.
        processes: that share each batch.
        data, valid: the columns, on the program's device.
        callbacks: see ``fit``.
        shown: show a bar.
    """

    sent: Sent
    seeds: Sequence[int]
    estimator: ELBO | Mapping[str, ELBO]
    optimizer: Optimizable
    plan: Plan
    processes: Processes
    data: Columns | Streamed
    valid: Columns | Streamed | None
    callbacks: Sequence[Callback]
    shown: bool

    def run(self, directory: RunDirectory, jobs: int) -> Run:
        """Train all seeds, ``jobs`` at a time, from the directory's checkpoint; save the run."""
        programs = copies(*self.sent.pair, len(self.seeds))
        with rng.forked():
            begun = self.begun(programs, self.seeds)
            if self.plan.seeds_at_once:
                trained = self.at_once(begun, directory)
            else:
                trained = self.one_by_one(begun, directory, jobs)
        warn_of_unsettled(trained)
        run = self.result(trained, directory)
        if not directory.trained:
            run.keep_groups()
        run.save()
        return run

    def begun(self, programs: Sequence[Program], seeds: Sequence[int]) -> Iterator[SeedTraining]:
        """Each seed's training, made lazily."""
        plan = self.plan
        fixed = {name: getattr(self, name) for name in ("data", "valid", "plan", "processes")}
        for i, (seed, program) in enumerate(zip(seeds, programs, strict=True)):
            program.to(plan.device, plan.dtype)
            with program.scope():
                pyro.set_rng_seed(seed)
                if i:
                    reset_modules(program, programs[0])
                assert isinstance(self.estimator, ELBO)
                training = SeedTraining(program, copy.deepcopy(self.estimator), seed=seed, **fixed)
                refuse_shared(program, programs[:i])
            if not i:
                with rng.forked():  # a transform of columns may draw
                    first = self.data.order(plan.batch_size, seed, 0)[:1]
                    warn_of_changed_names(program, next(iter(self.data.batches(first))))
            yield training

    def one_by_one(
        self, begun: Iterator[SeedTraining], directory: RunDirectory, jobs: int = 1
    ) -> list[SeedTraining]:
        """Run each training to its end; with jobs, workers do, once the directory is claimed."""
        done: list[SeedTraining] = []
        for seed in begun:
            with seed.within():
                training = TrainingRun([seed], seed.gradient(), self.optimizer)
            training.stops = functools.partial(self.stops, directory)
            directory.claim(training)
            if jobs > 1 and not done:
                self.ahead(directory, jobs)
            directory.train(training, self.bar(f"seed {seed.seed}"))
            done.append(seed)
        return done

    def at_once(self, begun: Iterator[SeedTraining], directory: RunDirectory) -> list[SeedTraining]:
        """Run all trainings to their end as one vectorised program."""
        seeds, streams = zip(*((s, s.keep_stream()) for s in begun), strict=True)
        gradients = [own_gradient(s, CapturedGradient, s.plan.clip_norm) for s in seeds]
        gradient = AllSeedsGradient(gradients, streams)
        training = TrainingRun(list(seeds), gradient, self.optimizer)
        training.stops = functools.partial(self.stops, directory)
        directory.train(training, self.bar(f"{len(seeds)} seeds"))
        gradient.release()
        return list(seeds)

    def ahead(self, directory: RunDirectory, jobs: int) -> None:
        """Train the seeds that have not ended in workers; the directory has their states."""
        known, steps = directory.states, self.plan.steps
        ended = {s for s, state in known.items() if state["finished"] and state["steps"] == steps}
        parts = [(seed, directory.part(seed)) for seed in self.seeds if seed not in ended]
        label = f"{len(parts)} seeds, {jobs} at a time"
        directory.join(side_by_side(self.in_worker, parts, jobs, label, self.shown))

    def in_worker(self, task: tuple[int, RunDirectory]) -> dict[Any, Any]:
        """The state of one seed after its training; the first seed is made beside it."""
        seed, part = task
        seeds = list(dict.fromkeys([self.seeds[0], seed]))
        quiet = replace(self, shown=False)
        with part, rng.forked(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parent has said them
            part.hold()
            programs = copies(*self.sent.unpacked(), len(seeds))
            *_, last = list(quiet.begun(programs, seeds))
            quiet.one_by_one(iter([last]), part)
        return part.states

    def stops(self, directory: RunDirectory, seed: SeedTraining) -> bool:
        """Call the callbacks after an epoch of a seed; whether one of them ends it."""
        if not self.callbacks:
            return False
        with rng.forked(), seed.program.scope():
            run = self.result([seed], directory)
            try:
                for callback in self.callbacks:
                    callback(seed.step, seed.epoch, seed.metrics(), run)
            except StopIteration:
                return True
        return False

    def result(self, trained: Sequence[SeedTraining], directory: RunDirectory) -> Run:
        """The run of these seeds, as far as they are."""
        config = directory.config
        about = {"bound": bound_of(self.estimator), "data": config["data"]}
        held_out = about | {"data": config["held_out_data"]}
        if CHOICE in config:
            about |= {"chosen": said(config[CHOICE])}
        trace = trace_of(trained, {"svi": about, "held_out": held_out})
        home = directory.path if self.processes.rank == 0 else None
        programs = [seed.program for seed in trained]
        place = self.plan.dtype, self.plan.device
        return Run(trace, programs, self.data, home, *place, self.valid, config)

    def bar(self, label: str) -> Bar:
        """Of a training."""
        return Bar(label, self.plan.steps, self.shown and self.processes.rank == 0)


def warn_of_unsettled(trained: Sequence[SeedTraining]) -> None:
    """Warn of each seed that was to be trained until it has converged, and has not."""
    for seed in trained:
        if seed.iterates is not None and not seed.iterates.mean:
            warnings.warn(
                f"seed {seed.seed}: {seed.iterates.verdict}; its last parameters are kept: give "
                "more epochs (resume=True goes on), or another learning rate",
                stacklevel=4,
            )
