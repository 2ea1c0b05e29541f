"""``fit``: stochastic variational inference of any Pyro model and guide on named columns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO
from pyro.optim.lr_scheduler import PyroLRScheduler

from inference.data.columns import Columns, Data, Streamed
from inference.engine import launch
from inference.engine.optimizers import Optimizable
from inference.engine.processes import Processes, launched
from inference.engine.program.checks.arguments import (
    refuse_callables,
    refuse_options,
    seeds_of,
)
from inference.engine.program.copies import Sent
from inference.engine.training.directory import RunDirectory
from inference.engine.training.identity import fit_identity
from inference.engine.training.plan import Plan, total_steps
from inference.engine.training.schedules import Schedule, constant
from inference.results.run import Run
from inference.util.errors import UserError
from inference.workflow.choosing.candidates import named_choices
from inference.workflow.choosing.choice import with_choice
from inference.workflow.fitting.columns import chosen
from inference.workflow.fitting.job import Callback, Job

DEFAULT_OPTIMIZER = functools.partial(torch.optim.Adam, lr=1e-3)


def fit(
    model: Callable,
    guide: Callable,
    data: Data,
    estimator: ELBO | Mapping[str, ELBO] | str | None = None,
    optimizer: Optimizable = DEFAULT_OPTIMIZER,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seeds: int | Sequence[int] = 1,
    schedule: Schedule = constant,
    anneal: Schedule = constant,
    clip_norm: float | None = None,
    valid: Data | None = None,
    patience: int | None = None,
    until: str | None = None,
    device: str = "cpu",
    precision: str = "float32",
    compile: bool = False,
    seeds_at_once: bool = False,
    directory: str | Path | None = None,
    resume: bool = False,
    extend: bool = False,
    overwrite: bool = False,
    checkpoint_every: float = 30.0,
    config: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    jobs: int = 1,
    progress: bool = True,
) -> Run:
    """Fit a Pyro program by SVI; an interrupted fit continues by the same call with ``resume``.

    Under ``torchrun``, several processes train one program: each takes its shard of every batch.
    Rank 0 alone prints and writes.

    Args:
        model, guide: ``PyroModule`` s or plain functions with ``pyro.param``; called with those
            columns of a batch that the model names as arguments.  The first seed trains these
            objects themselves; each further seed trains a copy whose modules draw new weights.
        data: column name → tensor (N, ...), or a data set whose items are such dicts.
        estimator: any ``pyro.infer.ELBO``; ``Trace_ELBO()`` unless given.  "auto" measures, after
            a short training of a copy, which of the unbiased estimators of the ELBO that take the
            program has the least E‖g‖² × model evaluations, and fits with that one; a dict, name →
            estimator, chooses among these.  The decision is kept in ``directory``, and
            ``run.trace["svi"].attrs["chosen"]`` says it.
        optimizer: parameters → ``torch.optim.Optimizer``, which gets the gradient of the loss in
            nats per datum; or one of ``pyro.optim``, which gets that of the whole loss, as in
            Pyro's SVI, and whose scheduler steps after each epoch.  A parameter that appears in a
            later batch is updated from then on, with a fresh state.
        epochs, steps: duration; give one of them.
        batch_size: rows a step, of all processes together, drawn without replacement within an
            epoch; None for all rows.
        seeds: how many (0, 1, …), or which.
        schedule: progress in [0, 1) → factor of the learning rate.
        anneal: progress → weight of the KL.  The trace records the ELBO itself throughout.
        clip_norm: largest norm of the gradient over all parameters together.
        valid: held-out data, whose bound is estimated after each epoch.
        patience: stop after this many epochs in which the held-out bound did not improve by two
            standard errors, and keep the best parameters.
        until: "converged": stop after the epoch in which the parameters of a seed have settled
            under the constant learning rate, and keep their mean over the later part of training
            (buffers are the last ones); ``epochs`` or ``steps`` are the most it takes.  See
            ``inference.engine.training.records.convergence`` for the rule.  The trace says why each
            seed stopped, ``run.trace["svi"].attrs["stopped"]``; one that has not settled warns and
            keeps its last parameters.
        device: "cpu", "cuda", "cuda:1", …; of several processes, "cuda" gives each its own.
        precision: "float32", "float64" or "bf16-mixed".
        compile: capture the step (estimator, backward, clipping) once as a graph, and compile it:
            the same numbers, up to rounding, at the speed of plain PyTorch or better.  Programs
            that branch on what they draw are refused.
        seeds_at_once: with ``compile``, train all seeds as one vectorised program, to the same
            numbers up to rounding; for an optimizer that treats each element by itself.
        directory: where ``trace.nc``, ``checkpoint.pt`` and ``config.json`` go; None keeps
            everything in memory.
        resume: continue the fit in ``directory`` (if any), which must be of the same data, program
            and options; but there may be more epochs, steps or seeds.  More epochs give, bit for
            bit, what they would have given from the start.
        extend: with ``resume``, take more epochs also where ``schedule`` or ``anneal`` depend on
            their number, so that the course is another than from the start.
        overwrite: replace the fit in ``directory``.
        checkpoint_every: seconds between checkpoints.
        config: further identification of this fit (a recipe's options), kept in ``config.json``.
        callbacks: functions ``f(step, epoch, metrics, run)``, called after each epoch of a seed
            (by rank 0) with the epoch's mean of what is recorded, nats per datum, and that seed's
            run so far.  One that raises ``StopIteration`` ends the seed as if it were done.  What
            they draw at random changes nothing.
        jobs: seeds trained at a time, each in a process of its own (where callbacks run, too), to
            the same numbers; see ``inference.workflow.workers``.
        progress: show a bar.

    Returns:
        The run: its trace and the trained programs.

    Raises:
        UserError: data, program and options do not fit together; the message says where.

    Example:
        >>> from functools import partial
        >>> import torch, pyro, pyro.distributions as dist
        >>> from inference import fit
        >>> def model(x):
        ...     loc = pyro.param("loc", torch.tensor(0.0))
        ...     with pyro.plate("data", 20, subsample=x):
        ...         pyro.sample("x", dist.Normal(loc, torch.tensor(1.0)), obs=x)
        >>> run = fit(model, lambda x: None, {"x": torch.ones(20)}, steps=100,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1), progress=False)
        >>> round(float(run.params["loc"]), 2)
        1.0
    """
    elbo = Trace_ELBO() if estimator is None else named_choices(estimator)
    refuse_callables(model, guide)
    counts = {"epochs": epochs, "steps": steps, "batch_size": batch_size}
    refuse_options(
        counts=counts | {"patience": patience, "jobs": jobs},
        positive={"clip_norm": clip_norm},
        durations={"checkpoint_every": checkpoint_every},
        functions={"schedule": schedule, "anneal": anneal},
        device=device,
    )
    refuse_callbacks(callbacks)
    with launch.exit_together(), launched(device) as processes:
        train, held_out = chosen(model, guide, data, valid)
        plan = Plan(
            rows=len(train),
            steps=total_steps(len(train), batch_size, epochs, steps),
            batch_size=batch_size,
            device=processes.device,
            precision=precision,
            schedule=schedule,
            anneal=anneal,
            clip_norm=clip_norm,
            patience=patience,
            until=until,
            compile=compile,
            seeds_at_once=seeds_at_once,
        )
        refuse_together(plan, optimizer, held_out, processes, jobs)
        home = None if directory is None else Path(directory)
        numbers = seeds_of(seeds)
        identity = fit_identity(plan, numbers, elbo, config, train, held_out)
        with RunDirectory(home, identity, checkpoint_every, processes) as kept:
            kept.open(resume=resume, overwrite=overwrite, extend=extend)
            job = Job(
                sent=Sent(model, guide),
                seeds=numbers,
                estimator=elbo,
                optimizer=optimizer,
                plan=plan,
                processes=processes,
                data=train.to(plan.device, plan.dtype),
                valid=held_out and held_out.to(plan.device, plan.dtype),
                callbacks=callbacks,
                shown=progress,
            )
            run = with_choice(job, kept).run(kept, jobs)
    return run


def refuse_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raise a ``UserError`` if they are not a list of functions."""
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise UserError(
            "callbacks must be a list of functions f(step, epoch, metrics, run), callbacks=[f]"
        )


def refuse_together(
    plan: Plan,
    optimizer: Optimizable,
    held_out: Columns | Streamed | None,
    processes: Processes,
    jobs: int,
) -> None:
    """Raise a ``UserError`` for options that exclude, or need, one another."""
    plan.refuse_processes(processes.size)
    if jobs > 1 and (plan.seeds_at_once or processes.size > 1):
        raise UserError("jobs are for seeds one by one in one process: leave out one of the two")
    if plan.patience is not None and held_out is None:
        raise UserError("patience stops on the held-out bound: give valid data, too")
    if plan.until is not None and isinstance(optimizer, PyroLRScheduler):
        raise UserError(
            "until watches iterates settle under one learning rate: leave out the scheduler, or "
            "until"
        )
