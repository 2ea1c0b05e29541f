"""One decision for a fit: a copy of its first seed is trained a little, then estimators race.

The decision depends on program, data, options and first seed alone, not on the number of steps,
seeds or processes, nor on capture; it is kept in ``config.json``, and a fit that is resumed has it
from there.  The fit itself then starts anew, and is bit for bit that of the chosen estimator.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pyro.infer import ELBO
from torch import nn

from inference.data.columns import Batch
from inference.engine.processes import Processes
from inference.engine.program.copies import copies
from inference.engine.program.program import Program
from inference.engine.training.directory import RunDirectory
from inference.engine.training.loop import TrainingRun, train
from inference.engine.training.schedules import constant
from inference.engine.training.seed_training import SeedTraining, initialise
from inference.estimators import MovingAverage
from inference.util import rng
from inference.util.progress import Bar
from inference.workflow.auditing.moments import placed, settle
from inference.workflow.choosing.candidates import accepted
from inference.workflow.choosing.race import Ratio, Runner, race, ratio
from inference.workflow.fitting.job import CHOICE, Job

WARM_UP = 100  # steps of the incumbent before measuring
ADAPTING = 32  # gradients for baselines and temperatures to adapt
SAVES = 0.2  # share of the incumbent's effort that a change must save

Decision = dict[str, Any]  # of plain JSON types; see ``decide``


def with_choice(job: Job, directory: RunDirectory) -> Job:
    """The job with one estimator: its own, the one that was chosen before, or the one of a race."""
    if isinstance(job.estimator, ELBO):
        return job
    decision = directory.recorded(CHOICE) or job.processes.on_rank_zero(lambda: decide(job))
    directory.identity[CHOICE] = decision
    return replace(job, estimator=job.estimator[decision["chosen"]])


def decide(job: Job) -> Decision:
    """Which of the job's estimators it shall have; nothing of the job's programs is changed.

    Returns:
        chosen, incumbent: names.  ratio: the chosen one's E‖g‖² × evaluations over the incumbent's,
        and the ends of its interval.  efforts: name → [E‖g‖² × evaluations, evaluations of one
        gradient, gradients measured].  refused: name → why.  steps: of the warm-up.  evaluations:
        of the model in all.
    """
    program = copies(*job.sent.pair, 2)[1]
    program.to(job.plan.device, job.plan.dtype)
    with rng.forked(job.seeds[0]), program.scope():
        first = next(_batches(job, epoch=0))
        initialise(program, first, job.plan, Processes(job.plan.device))
        before = program.state_dict()
        try:
            return _decided(job, program, first)
        finally:  # modules that a function closes over are no copies
            program.load_state_dict(before)
            for parameter in program.parameters.values():
                parameter.grad = None


def _decided(job: Job, program: Program, first: Batch) -> Decision:
    assert isinstance(job.estimator, Mapping)
    costs, refused = accepted(job.estimator, program, first)
    incumbent, *others = costs
    if not others:
        alone = {"chosen": incumbent, "incumbent": incumbent, "ratio": [1.0, 1.0, 1.0]}
        return alone | {"efforts": {}, "refused": refused, "steps": 0, "evaluations": 0}
    warm_up(job, program, job.estimator[incumbent])
    runners, adapting = dict[str, Runner](), 0
    for name, cost in costs.items():
        own = placed(job.estimator[name], program)
        adapting += ADAPTING * cost if (stateful := has_state(own)) else 0
        runners[name] = Runner(settle(own, program, first, ADAPTING) if stateful else own, cost)
    batches = itertools.chain.from_iterable(_batches(job, e) for e in itertools.count(1))
    best, *_ = race(runners, program, batches, job.plan.autocast)
    saved = ratio(runners[best], runners[incumbent])
    if not changes(saved):
        best, saved = incumbent, Ratio(1.0, 1.0, 1.0)
    same = {n: f"the same as {r.same_as}" for n, r in runners.items() if r.same_as}
    spent = WARM_UP * costs[incumbent] + sum(costs.values()) + adapting
    return {
        "chosen": best,
        "incumbent": incumbent,
        "ratio": list(saved),
        "efforts": {n: [r.effort, r.evaluations, len(r.squares)] for n, r in runners.items()},
        "refused": refused | same,
        "steps": WARM_UP,
        "evaluations": spent + sum(len(r.squares) * r.evaluations for r in runners.values()),
    }


def changes(saved: Ratio) -> bool:
    """Whether a ratio of efforts, new over old, is reason to change."""
    return saved.value <= 1 - SAVES and saved.high < 1


def has_state(estimator: ELBO) -> bool:
    """Whether it has something to adapt: a baseline, a temperature."""
    return isinstance(estimator, nn.Module) and any(
        isinstance(part, MovingAverage) or any(True for _ in part.parameters())
        for part in estimator.modules()
    )


def warm_up(job: Job, program: Program, estimator: ELBO) -> None:
    """Train the program for some steps, uncaptured, at the full rate."""
    fixed: dict[str, Any] = {"schedule": constant, "anneal": constant, "patience": None}
    fixed |= {"until": None, "compile": False, "seeds_at_once": False}
    plan = replace(job.plan, steps=WARM_UP, **fixed)
    own = placed(estimator, program)
    seed = SeedTraining(program, own, data=job.data, plan=plan, seed=job.seeds[0])
    training = TrainingRun([seed], seed.gradient(), job.optimizer)
    with Bar("choosing an estimator", WARM_UP, job.shown) as bar:
        train(training, bar, lambda: None, math.inf)


def _batches(job: Job, epoch: int) -> Iterator[Batch]:
    """Those of an epoch."""
    yield from job.data.batches(job.data.order(job.plan.batch_size, job.seeds[0], epoch))
