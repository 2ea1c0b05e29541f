"""``fit``: stochastic variational inference of any Pyro model and guide on named columns."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
import torch
import xarray as xr
from pyro.infer import ELBO, Trace_ELBO
from pyro.infer.autoguide import AutoGuide
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.utils.data import Dataset

from inference.data.columns import Columns, Streamed, as_columns
from inference.engine import launch
from inference.engine.processes import Processes, launched
from inference.engine.program.program import Program, accepted_columns, reset_modules
from inference.engine.training.all_seeds import AtOnce
from inference.engine.training.schedules import Schedule, constant
from inference.engine.training.trainer import OptimizerFactory, Plan, Trainer
from inference.results import traces
from inference.results.run import Run
from inference.util import rng
from inference.util.errors import UserError
from inference.util.files import load_checkpoint, read_json, save_checkpoint, write_json
from inference.util.progress import Bar

Data = Columns | Streamed | Mapping[str, Tensor] | Dataset
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bf16-mixed": torch.float32}
DEFAULT_OPTIMIZER = functools.partial(torch.optim.Adam, lr=1e-3)


def fit(
    model: Callable,
    guide: Callable,
    data: Data,
    estimator: ELBO | None = None,
    optimizer: OptimizerFactory | PyroOptim = DEFAULT_OPTIMIZER,
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
    overwrite: bool = False,
    checkpoint_every: float = 30.0,
    config: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Run:
    """Fit a Pyro program by SVI; killed at any moment, the same call with ``resume`` goes on.

    In a script or recipe that ``torchrun`` starts several times, the processes train one program
    together: each takes its part of every batch.  The first alone prints and writes.

    Args:
        model, guide: ``PyroModule`` s or plain functions with ``pyro.param``; called with those
            columns of a batch that the model names as arguments.  The first seed trains these
            objects themselves; each further seed trains a copy whose modules draw new weights.
        data: column name → tensor (N, ...), or a data set whose items are such dicts.
        estimator: any ``pyro.infer.ELBO``; ``Trace_ELBO()`` unless given.
        optimizer: parameters → ``torch.optim.Optimizer``, or one of ``pyro.optim``.  It follows
            the gradient of the loss in nats per datum.
        epochs, steps: how long; give one.
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
        resume: go on with the fit that ``directory`` holds (if any), which must be this one.
        overwrite: replace the fit that ``directory`` holds.
        checkpoint_every: seconds between checkpoints.
        config: what else identifies this fit (a recipe's options), kept in ``config.json``.
        progress: show a bar.

    Returns:
        The run: its trace, the trained programs, and what can be drawn from them.

    Raises:
        UserError: data, program and options do not fit together; the sentence says where.
    """
    if seeds_at_once and not compile:
        raise UserError("seeds_at_once vectorises the captured step: give compile, too")
    with launch.exit_together(), launched(device) as processes:
        if seeds_at_once and processes.size > 1:
            raise UserError("seeds_at_once is for one process: let each have seeds of its own")
        columns = as_columns(data)
        names = accepted_columns(model, columns.names)
        if isinstance(columns, Columns):
            columns.select(names).refuse_nonfinite()
        plan = _plan(len(columns), epochs, steps, batch_size, processes, precision, patience, valid)
        plan = replace(plan, schedule=schedule, anneal=anneal, clip_norm=clip_norm, compile=compile)
        place = functools.partial(_place, plan=plan, names=names)
        seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        settings = _settings(plan, seeds, len(columns), optimizer, estimator, config)
        settings["seeds_at_once"] = seeds_at_once
        train = place(columns)
        held_out = place(as_columns(valid)) if valid is not None else None
        directory = Path(directory) if directory is not None else None
        store = Store(directory, settings, checkpoint_every, processes)
        store.open(resume, overwrite)
        programs = _copies(model, guide, len(seeds))
        trainers = []
        with rng.forked():
            for i, (seed, program) in enumerate(zip(seeds, programs, strict=True)):
                program.to(plan.device, plan.dtype)
                with program.scope():
                    pyro.set_rng_seed(seed)
                    if i:
                        reset_modules(program)
                    trainer = Trainer(
                        program,
                        copy.deepcopy(estimator) if estimator is not None else Trace_ELBO(),
                        _factory(optimizer),
                        train,
                        held_out,
                        plan,
                        seed,
                        processes,
                    )
                    _refuse_shared(program, programs[:i])
                    shown = progress and processes.rank == 0
                    if not seeds_at_once:
                        store.train(trainer, Bar(f"seed {seed}", plan.steps, shown))
                trainers.append(trainer)
            if seeds_at_once:
                at_once = AtOnce(trainers, _factory(optimizer))
                store.train(at_once, Bar(f"{len(seeds)} seeds", plan.steps, progress))
                at_once.release()
        kept = directory if processes.rank == 0 else None
        run = Run(_tree(trainers, seeds), programs, train, kept, plan.dtype, plan.device)
        run.save()
    return run


class Store:
    """The run's directory: refuses another fit's, resumes this one's, checkpoints every while."""

    def __init__(
        self,
        directory: Path | None,
        settings: dict[str, Any],
        every: float,
        processes: Processes,
    ) -> None:
        self.directory, self.settings, self.every = directory, settings, every
        self.processes = processes
        self.states: dict[Any, Any] = {}
        self._claimed = directory is None

    def open(self, resume: bool, overwrite: bool) -> None:
        """Read what the directory holds; nothing is written before the first seed is ready."""
        self.states = self.processes.on_rank_zero(lambda: self._read(resume, overwrite))

    def _read(self, resume: bool, overwrite: bool) -> dict[Any, Any]:
        if self.directory is None or not (self.directory / "config.json").exists() or overwrite:
            return {}
        if not resume:
            raise UserError(
                f"{self.directory} holds a fit: --resume goes on with it, --overwrite replaces it, "
                "or choose another directory (in Python, resume=True and overwrite=True)"
            )
        _refuse_other(self.directory, self.settings)
        self._claimed = True
        checkpoint = self.directory / "checkpoint.pt"
        return load_checkpoint(checkpoint) if checkpoint.exists() else {}

    def train(self, trainer: Trainer, bar: Bar) -> None:
        """Resume the trainer if it was begun before, and run it to its end."""
        self.processes.on_rank_zero(self._claim)
        if state := self.states.get(trainer.seed):
            trainer.load_state_dict(state)
        if trainer.finished:
            return
        with bar:
            trainer.run(bar, lambda: self.save(trainer), self.every)
        self.save(trainer)

    def _claim(self) -> None:
        if self.directory is not None and not self._claimed:
            for old in ("checkpoint.pt", "trace.nc"):  # before config.json, which vouches for them
                (self.directory / old).unlink(missing_ok=True)
            write_json(self.directory / "config.json", self.settings)
        self._claimed = True

    def save(self, trainer: Trainer) -> None:
        """Write all seeds' states."""
        if self.directory is not None:
            self.states[trainer.seed] = trainer.state_dict()
            if self.processes.rank == 0:
                save_checkpoint(self.directory / "checkpoint.pt", self.states)


def _plan(
    rows: int,
    epochs: int | None,
    steps: int | None,
    batch_size: int | None,
    processes: Processes,
    precision: str,
    patience: int | None,
    valid: Data | None,
) -> Plan:
    if (epochs is None) == (steps is None):
        raise UserError("give either epochs or steps")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1, or None for all rows")
    if batch_size is not None and batch_size > rows:
        raise UserError(
            f"batch_size is {batch_size}, but the data have {rows} rows: give at most that"
        )
    if patience is not None and valid is None:
        raise UserError("patience stops on the held-out bound: give valid data, too")
    if precision not in DTYPES:
        raise UserError(f"precision {precision!r} is not one of {', '.join(DTYPES)}")
    smallest = rows % (batch_size or rows) or batch_size or rows
    if smallest < processes.size:
        raise UserError(
            f"an epoch's {rows} rows in batches of {batch_size or rows} leave one of {smallest} "
            f"for {processes.size} processes: choose a batch_size that leaves a row for each"
        )
    per_epoch = 1 if batch_size is None else math.ceil(rows / batch_size)
    total = steps if steps is not None else (epochs or 0) * per_epoch
    if total < 1:
        raise UserError("epochs or steps must be at least 1")
    return Plan(
        total,
        per_epoch,
        batch_size,
        processes.device,
        DTYPES[precision],
        patience=patience,
        autocast=precision == "bf16-mixed",
    )


def _place(columns: Columns | Streamed, plan: Plan, names: list[str]) -> Columns | Streamed:
    missing = [n for n in names if n not in columns.names]
    if missing:
        raise UserError(f"the held-out data lack column {missing[0]!r}")
    return columns.select(names).to(plan.device, plan.dtype)


def _copies(model: Callable, guide: Callable, count: int) -> list[Program]:
    return [Program(model, guide), *(_copy(model, guide) for _ in range(count - 1))]


def _copy(model: Callable, guide: Callable) -> Program:
    """A deep copy; autoguides, which forget their model when copied, are reminded of it."""
    originals = _autoguides(guide)
    kept = [(part._model, part.master) for part in originals]
    models = [part._model for part in originals]
    new_model, new_guide, new_models = copy.deepcopy((model, guide, models))
    for part, (its_model, master) in zip(originals, kept, strict=True):
        part._model, part.master = its_model, master
    for part, its_model in zip(_autoguides(new_guide), new_models, strict=True):
        part._model = its_model
    return Program(new_model, new_guide)


def _autoguides(guide: Callable) -> list[Any]:
    modules = guide.modules() if isinstance(guide, nn.Module) else ()
    return [module for module in modules if isinstance(module, AutoGuide)]


def _refuse_shared(program: Program, earlier: Sequence[Program]) -> None:
    trained = {id(p) for other in earlier for p in other.parameters.values()}
    for name, parameter in program.parameters.items():
        if id(parameter) in trained:
            raise UserError(
                f"parameter {name!r} belongs to a module that the model or guide function closes "
                "over, so a second seed cannot have its own: write them as PyroModules, or fit "
                "one seed at a time"
            )


def _factory(optimizer: OptimizerFactory | PyroOptim) -> OptimizerFactory:
    if not isinstance(optimizer, PyroOptim):
        return optimizer
    constructor: Any = optimizer.pt_optim_constructor
    if callable(optimizer.pt_optim_args):
        raise UserError("a pyro.optim with per-parameter arguments has no single torch form")
    return functools.partial(constructor, **optimizer.pt_optim_args)


def _settings(
    plan: Plan,
    seeds: list[int],
    rows: int,
    optimizer: Any,
    estimator: ELBO | None,
    config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Everything that must be equal for a directory to be resumed; plain JSON types."""
    constructor = getattr(optimizer, "func", getattr(optimizer, "pt_optim_constructor", optimizer))
    arguments = getattr(optimizer, "keywords", getattr(optimizer, "pt_optim_args", {}))
    elbo = estimator if estimator is not None else Trace_ELBO()
    return {
        "rows": rows,
        "steps": plan.steps,
        "batch_size": plan.batch_size,
        "seeds": seeds,
        "estimator": _described(elbo),
        "optimizer": getattr(constructor, "__name__", str(type(constructor).__name__)),
        "optimizer_arguments": {k: repr(v) for k, v in arguments.items()},
        "schedule": plan.schedule.__qualname__,
        "anneal": plan.anneal.__qualname__,
        "clip_norm": plan.clip_norm,
        "patience": plan.patience,
        "compile": plan.compile,
        "precision": str(plan.dtype).removeprefix("torch.") + ("-mixed" if plan.autocast else ""),
        "recipe": dict(config) if config else None,
    }


def _described(estimator: Any) -> str:
    """An estimator's class, plain options, parts: LeaveOneOut(num_particles=4)."""
    kinds = (int, float, str)
    about = {k: v for k, v in vars(estimator).items() if k[0] != "_" and isinstance(v, kinds)}
    for passing in ("training", "max_plate_nesting", "vectorize_particles", "unbiased"):
        about.pop(passing, None)
    parts = estimator.named_children() if isinstance(estimator, nn.Module) else ()
    inner = {"elbo": estimator.elbo} if isinstance(getattr(estimator, "elbo", None), ELBO) else {}
    about |= {n: _described(part) for n, part in (*parts, *inner.items())}
    return f"{type(estimator).__name__}({', '.join(f'{k}={v}' for k, v in about.items())})"


def _refuse_other(directory: Path, settings: dict[str, Any]) -> None:
    before = read_json(directory / "config.json")
    flat = [(k, before.get(k), v) for k, v in settings.items() if k != "recipe"]
    old, new = before.get("recipe") or {}, settings["recipe"] or {}
    flat += [(k, old.get(k), new.get(k)) for k in {**old, **new}]
    for name, was, wanted in flat:
        if was != wanted:
            raise UserError(
                f"{directory} holds a fit with {name} = {was}, not {wanted}: choose another "
                "directory, or --overwrite"
            )


def _tree(trainers: Sequence[Trainer], seeds: Sequence[int]) -> xr.DataTree:
    names = (*trainers[0].recorder.names, "seconds")
    rows = [t.recorder.rows() for t in trainers]
    steps = [t.recorder.steps(t.step) for t in trainers]
    svi = traces.svi_group(names, seeds, steps, rows)
    examples = _examples(svi["step"], trainers[0]).where(svi["elbo"].notnull())
    svi["examples"] = examples.transpose("seed", "step")
    svi["examples"].attrs["units"] = traces.UNITS["examples"]
    groups = {"svi": svi}
    if trainers[0].valid is not None:
        histories = [torch.tensor(t.held_out.history, dtype=torch.float64) for t in trainers]
        groups["held_out"] = traces.svi_group(
            ("elbo", "elbo_error"),
            seeds,
            [h[:, 0].long() for h in histories],
            [h[:, 1:] for h in histories],
        )
    return xr.DataTree.from_dict(groups)


def _examples(step: xr.DataArray, trainer: Trainer) -> xr.DataArray:
    """Data seen after ``step`` steps; an epoch's last batch may be short."""
    rows, plan = len(trainer.data), trainer.plan
    within = step % plan.steps_per_epoch * (plan.batch_size or rows)
    return step // plan.steps_per_epoch * rows + within
