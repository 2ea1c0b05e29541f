"""``fit``: stochastic variational inference of any Pyro model and guide on named columns."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyro
import torch
import xarray as xr
from pyro.infer import ELBO, Trace_ELBO

from inference.data.columns import Columns, Data, Streamed, as_columns
from inference.engine import launch
from inference.engine.gradient.all_seeds import AllSeedsGradient
from inference.engine.gradient.captured import CapturedGradient
from inference.engine.optimizers import Optimizable
from inference.engine.processes import launched
from inference.engine.program.checks.arguments import (
    refuse_callables,
    refuse_estimator,
    refuse_options,
    refuse_signature,
    seeds_of,
)
from inference.engine.program.copies import Sent, copies, refuse_shared, reset_modules
from inference.engine.program.program import Program, accepted_columns
from inference.engine.training.directory import RunDirectory
from inference.engine.training.identity import bound_of, fit_identity
from inference.engine.training.loop import TrainingRun
from inference.engine.training.plan import Plan, total_steps
from inference.engine.training.recorder import regrouped
from inference.engine.training.schedules import Schedule, constant
from inference.engine.training.seed_training import SeedTraining, own_gradient
from inference.engine.training.validation import refuse_other_columns
from inference.results import traces
from inference.results.draws.names import warn_of_changed_names
from inference.results.run import Run
from inference.util import rng
from inference.util.errors import UserError
from inference.util.progress import Bar
from inference.workflow.workers import side_by_side

How = tuple[Optimizable, functools.partial[Bar], Callable[[SeedTraining], bool]]
Worker = Callable[[tuple[int, RunDirectory]], dict[Any, Any]]
Callback = Callable[[int, int, dict[str, float], Run], object]
DEFAULT_OPTIMIZER = functools.partial(torch.optim.Adam, lr=1e-3)


def fit(
    model: Callable,
    guide: Callable,
    data: Data,
    estimator: ELBO | None = None,
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
        estimator: any ``pyro.infer.ELBO``; ``Trace_ELBO()`` unless given.
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
    elbo = Trace_ELBO() if estimator is None else estimator
    refuse_estimator(elbo)
    refuse_callables(model, guide)
    refuse_options(
        counts={
            "epochs": epochs,
            "steps": steps,
            "batch_size": batch_size,
            "patience": patience,
            "jobs": jobs,
        },
        positive={"clip_norm": clip_norm},
        durations={"checkpoint_every": checkpoint_every},
        functions={"schedule": schedule, "anneal": anneal},
        device=device,
    )
    with launch.exit_together(), launched(device) as processes:
        columns = as_columns(data)
        names = accepted_columns(model, columns.names)
        refuse_signature(guide, names)
        plan = Plan(
            rows=len(columns),
            steps=total_steps(len(columns), batch_size, epochs, steps),
            batch_size=batch_size,
            device=processes.device,
            precision=precision,
            schedule=schedule,
            anneal=anneal,
            clip_norm=clip_norm,
            patience=patience,
            compile=compile,
            seeds_at_once=seeds_at_once,
        )
        plan.refuse_processes(processes.size)
        if jobs > 1 and (plan.seeds_at_once or processes.size > 1):
            raise UserError(
                "jobs are for seeds one by one in one process: leave out one of the two"
            )
        chosen = seeds_of(seeds)
        train = _checked(columns, names)
        held_out = _held_out(valid, names, plan, train)
        with RunDirectory(
            None if directory is None else Path(directory),
            fit_identity(plan, chosen, elbo, config, train, held_out),
            checkpoint_every,
            processes,
        ) as kept:
            kept.open(resume=resume, overwrite=overwrite, extend=extend)
            programs = copies(model, guide, len(chosen))
            train, held_out = _placed(train, plan), held_out and _placed(held_out, plan)
            fixed = {"data": train, "valid": held_out, "plan": plan, "processes": processes}
            bar = functools.partial(Bar, total=plan.steps, shown=progress and processes.rank == 0)
            home = kept.path if processes.rank == 0 else None
            fits = functools.partial(
                _run, bound_of(elbo), kept.config, (home, plan.dtype, plan.device)
            )
            how = optimizer, bar, stopping(callbacks, fits)
            sent = Sent(model, guide)
            worker = functools.partial(_one_seed, sent, chosen[0], elbo, fixed, how)
            shown = progress and jobs > 1
            ahead = functools.partial(_ahead, chosen, plan.steps, kept, worker, jobs, shown)
            with rng.forked():
                begun = _begun(programs, chosen, elbo, fixed)
                trained = _trained(begun, kept, *how, ahead if jobs > 1 else None)
            run = fits(trained)
            if not kept.trained:
                run.keep_groups()
            run.save()
    return run


def _checked(columns: Columns | Streamed, names: Sequence[str]) -> Columns | Streamed:
    """The columns that the model takes, all finite."""
    chosen = columns.select(names)
    if isinstance(chosen, Columns):
        chosen.refuse_nonfinite()
    return chosen


def _placed(columns: Columns | Streamed, plan: Plan) -> Columns | Streamed:
    """The columns on the program's device."""
    return columns.to(plan.device, plan.dtype)


def _held_out(
    valid: Data | None, names: Sequence[str], plan: Plan, train: Columns | Streamed
) -> Columns | Streamed | None:
    """The same for held-out data, if there are any, of the training data's kind."""
    if valid is None:
        if plan.patience is not None:
            raise UserError("patience stops on the held-out bound: give valid data, too")
        return None
    columns = as_columns(valid)
    if missing := [n for n in names if n not in columns.names]:
        raise UserError(f"the held-out data lack column {missing[0]!r}")
    held_out = _checked(columns, names)
    refuse_other_columns("the held-out data", held_out, train)
    return held_out


def _begun(
    programs: Sequence[Program], seeds: Sequence[int], estimator: ELBO, fixed: Mapping[str, Any]
) -> Iterator[SeedTraining]:
    """Each seed's training, made lazily."""
    plan = fixed["plan"]
    for i, (seed, program) in enumerate(zip(seeds, programs, strict=True)):
        program.to(plan.device, plan.dtype)
        with program.scope():
            pyro.set_rng_seed(seed)
            if i:
                reset_modules(program, programs[0])
            training = SeedTraining(program, copy.deepcopy(estimator), seed=seed, **fixed)
            refuse_shared(program, programs[:i])
        if not i:
            with rng.forked():  # a transform of columns may draw
                first = fixed["data"].order(plan.batch_size, seed, 0)[:1]
                warn_of_changed_names(program, next(iter(fixed["data"].batches(first))))
        yield training


def _trained(
    begun: Iterator[SeedTraining],
    directory: RunDirectory,
    optimizer: Optimizable,
    bar: functools.partial[Bar],
    stops: Callable[[SeedTraining], bool],
    ahead: Callable[[], None] | None = None,
) -> list[SeedTraining]:
    """Run the trainings to their end, one after another or all at once.

    ``ahead`` is called first, once the directory is claimed: it may train the seeds elsewhere.
    """
    done: list[SeedTraining] = []
    streams: list[rng.Stream] = []
    for seed in begun:
        done.append(seed)
        if seed.plan.seeds_at_once:
            streams.append(seed.keep_stream())
            continue
        with seed.within():
            training = TrainingRun([seed], seed.gradient(), optimizer)
        training.stops = stops
        directory.claim(training)
        if ahead is not None and len(done) == 1:
            ahead()
        directory.train(training, bar(f"seed {seed.seed}"))
    if streams:
        gradient = AllSeedsGradient(
            [own_gradient(s, CapturedGradient, s.plan.clip_norm) for s in done], streams
        )
        training = TrainingRun(done, gradient, optimizer)
        training.stops = stops
        directory.train(training, bar(f"{len(done)} seeds"))
        gradient.release()
    return done


def stopping(
    callbacks: Sequence[Callback], fits: Callable[[Sequence[SeedTraining]], Run]
) -> Callable[[SeedTraining], bool]:
    """Calls the callbacks after an epoch of a seed; whether one of them stops it.

    Raises:
        UserError: they are not a list of functions.
    """
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise UserError(
            "callbacks must be a list of functions f(step, epoch, metrics, run), callbacks=[f]"
        )

    def stops(seed: SeedTraining) -> bool:
        if not callbacks:
            return False
        with rng.forked(), seed.program.scope():
            run = fits([seed])
            try:
                for callback in callbacks:
                    callback(seed.step, seed.epoch, seed.metrics(), run)
            except StopIteration:
                return True
        return False

    return stops


def _run(
    bound: str,
    config: Mapping[str, Any],
    where: tuple[Path | None, torch.dtype, torch.device],
    trained: Sequence[SeedTraining],
) -> Run:
    """The run of these seeds, as far as they are."""
    about = {"bound": bound, "data": config["data"]}
    held_out = about | {"data": config["held_out_data"]}
    trace = _trace(trained, {"svi": about, "held_out": held_out})
    programs, first = [seed.program for seed in trained], trained[0]
    return Run(trace, programs, first.data, *where, first.valid, config)


def _ahead(
    seeds: Sequence[int],
    steps: int,
    directory: RunDirectory,
    worker: Worker,
    jobs: int,
    shown: bool,
) -> None:
    """Train the seeds that have not ended in worker processes; the directory has their states."""
    known = directory.states
    ended = {s for s, state in known.items() if state["finished"] and state["steps"] == steps}
    parts = [(seed, directory.part(seed)) for seed in seeds if seed not in ended]
    label = f"{len(parts)} seeds, {jobs} at a time"
    directory.join(side_by_side(worker, parts, jobs, label, shown))


def _one_seed(
    sent: Sent,
    first: int,
    estimator: ELBO,
    fixed: Mapping[str, Any],
    how: How,
    task: tuple[int, RunDirectory],
) -> dict[Any, Any]:
    """In a worker: the state of one seed after its training; the first seed is made beside it."""
    seed, part = task
    optimizer, bar, stops = how
    seeds = list(dict.fromkeys([first, seed]))
    with part, rng.forked(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this process has said them
        part.hold()
        programs = copies(*sent.unpacked(), len(seeds))
        *_, last = list(_begun(programs, seeds, estimator, fixed))
        _trained(iter([last]), part, optimizer, functools.partial(bar, shown=False), stops)
    return part.states


def _trace(trained: Sequence[SeedTraining], about: Mapping[str, Any]) -> xr.DataTree:
    """Group ``svi`` with dims (seed, step), and ``held_out`` where there were held-out data.

    Args:
        trained: the seeds.
        about: group → attributes: which bound of which data it holds.
    """
    seeds = [t.seed for t in trained]
    names = (*trained[0].recorder.names, "seconds")
    records = [(t.recorder.fetch(), t.recorder.steps(t.step)) for t in trained]
    if len(windows := {t.recorder.window for t in trained}) > 1:  # some seeds stopped early
        records = [regrouped(*record, max(windows)) for record in records]
    svi = traces.svi_group(names, seeds, [s for _, s in records], [r for r, _ in records])
    examples = _examples(svi["step"], trained[0]).where(svi["elbo"].notnull())
    svi["examples"] = examples.transpose("seed", "step")
    svi["examples"].attrs["units"] = traces.UNITS["examples"]
    groups = {"svi": svi}
    if trained[0].valid is not None:
        histories = [torch.tensor(t.held_out.history, dtype=torch.float64) for t in trained]
        groups["held_out"] = traces.svi_group(
            ("elbo", "elbo_error"),
            seeds,
            [h[:, 0].long() for h in histories],
            [h[:, 1:] for h in histories],
        )
    for name, group in groups.items():
        group.attrs |= about[name]
    return xr.DataTree.from_dict(groups)


def _examples(step: xr.DataArray, training: SeedTraining) -> xr.DataArray:
    """Number of data seen after ``step`` steps; an epoch's last batch may be short."""
    plan = training.plan
    within = step % plan.steps_per_epoch * (plan.batch_size or plan.rows)
    return step // plan.steps_per_epoch * plan.rows + within
