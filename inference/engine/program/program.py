"""A Pyro program under training: model, guide, their parameters, and the plate over the data."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from inference.data.columns import Batch, row_count
from inference.engine.program.caches import Caches
from inference.engine.program.checks.constants import identified
from inference.engine.program.checks.match import matching, undrawn_latents
from inference.engine.program.checks.plates import (
    check_size,
    data_plate,
    frames_of,
    full_size,
    other_rows,
    refuse_uncovered,
)
from inference.engine.program.checks.rows import refuse_other_rows
from inference.engine.program.modules import constrained, evaluating, modules_of, untouched
from inference.engine.program.state import (
    met,
    others,
    put_back,
    roots_parameters,
    roots_size,
    state_of,
    stored,
)
from inference.estimators.programs import StochasticFunction
from inference.util import rng
from inference.util.errors import UserError

NO_PARAMETER = (
    "neither model nor guide has a parameter: there is nothing to fit (a module that a function or "
    'method uses is registered by pyro.module("name", module))'
)


class Program:
    """A model and guide with every parameter they own, wherever Pyro keeps it.

    Parameters of modules are found in the modules, those of ``pyro.param`` in a parameter store
    that belongs to this program alone: enter ``scope()`` before running model or guide.

    Attributes:
        parameters: name → unconstrained leaf tensor; filled by ``initialise``.
        plate, plate_size: name and N of the plate over the data; N is None where the plate is as
            long as the batch, the name is None where there is no plate.
        nesting: number of plate dimensions, at least 1.
        sites: site of the model, or "guide z" → distribution, on the first batch.
        undrawn: latents of the model that are not in the guide, marked to be summed out.
        late, fixed_by: names of parameters that appeared after the first batch, and what does not
            support such parameters (compile), if anything.
        caches: the transforms' caches.
        known: ``size()`` when new parameters were last searched for.
    """

    def __init__(self, model: StochasticFunction, guide: StochasticFunction) -> None:
        self.model, self.guide = model, guide
        self.store: Any = {"params": {}, "constraints": {}}
        self.parameters: dict[str, Tensor] = {}
        self.plate: str | None = None
        self.plate_size: int | None = None
        self.nesting = 1
        self.sites: dict[str, str] = {}
        self.undrawn: list[str] = []
        self.late: set[str] = set()
        self.fixed_by = ""
        self.caches = Caches()
        self.known = (0, 0)
        self.device, self.dtype = torch.device("cpu"), torch.get_default_dtype()
        self._entered = False

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Enter this program's parameter store, device and default dtype; reentrant."""
        if self._entered:
            yield
            return
        self._entered = True
        try:
            with (
                pyro.get_param_store().scope(self.store) as state,
                defaults(self.device, self.dtype),
                self.caches.watched(),
            ):
                yield
            self.store = state
        finally:
            self._entered = False

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Name → module, as ``modules_of`` finds them."""
        yield from self._modules.items()

    @functools.cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return modules_of(model=self.model, guide=self.guide)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the modules; within ``scope``, new tensors are made on that device, too."""
        self.device, self.dtype = device, dtype
        for _, module in self.modules():
            module.to(device, dtype)

    def evaluation(self) -> AbstractContextManager[None]:
        """Evaluation: no autograd graph, modules in ``eval()`` mode, buffers restored on exit."""
        return evaluating([module for _, module in self.modules()])

    def untouched(self) -> AbstractContextManager[None]:
        """Restores the modules' buffers on exit."""
        return untouched([module for _, module in self.modules()])

    def initialise(self, batch: Batch, rows: int) -> None:
        """Run once (within ``scope``, consuming no randomness): find parameters and data plate.

        Raises:
            UserError: the guide does not fit the model, a plate has the wrong size, a global latent
                is used with an unscaled plate, or the guide's per-row latents are not those of the
                batch's rows.
        """
        with poutine.trace(param_only=True) as capture, torch.no_grad(), self.untouched():
            trace, guide_trace = matching(self.traces, self.model, self.guide, batch)
        self.undrawn = undrawn_latents(trace, guide_trace)
        with self.untouched():
            self.sites = identified(self.traces, (trace, guide_trace), batch)
        self.__dict__.pop("_modules", None)  # an autoguide makes its parameters at its first run
        roots = roots_parameters(model=self.model, guide=self.guide)
        self.parameters = roots | others(roots, met(capture.trace))
        self.known = self.size()
        if not self.parameters:
            raise UserError(NO_PARAMETER)
        find_plate(self, (trace, guide_trace), batch, rows)

    def traces(self, batch: Batch) -> tuple[Trace, Trace]:
        """One draw of the guide, and the model replayed on it: (model trace, guide trace)."""
        self.caches.forget()
        guide_trace = poutine.trace(self.guide).get_trace(**batch)
        replayed = poutine.replay(self.model, trace=guide_trace)
        return poutine.trace(replayed).get_trace(**batch), guide_trace

    def size(self) -> tuple[int, int]:
        """How many parameters the store and the root modules hold."""
        return len(pyro.get_param_store()), roots_size(self.model, self.guide)

    def refresh(self) -> None:
        """Add the parameters that a run (within ``scope``) used for the first time.

        Raises:
            UserError: there are new ones, where all must appear in the first batch (``compile``),
                or a module has made one that it did not register.
        """
        if (size := self.size()) == self.known:
            return
        self.known = size
        late = others(self.parameters, stored())
        refuse_late(self, late)
        self.parameters |= late
        self.late |= late.keys()

    def datum_count(self, batch: Batch) -> int:
        """How many data the ELBO of this batch stands for: N, or the batch's own length."""
        return self.plate_size or row_count(batch)

    def values(self) -> dict[str, Tensor]:
        """Parameter values by name, detached copies.

        A constrained one has its constrained value; a ``PyroParam`` (an autoguide's scales) also
        what is optimised, under Pyro's own ``NAME_unconstrained``.
        """
        with self.scope():
            store = pyro.get_param_store()
            named = {n: store[n] if n in store else p for n, p in self.parameters.items()}  # noqa: SIM401
            named |= constrained(dict(self.modules()))
            return {name: value.detach().clone() for name, value in named.items()}

    def state_dict(self) -> dict[str, Any]:
        """Parameters, buffers and everything else in the store (within ``scope``)."""
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy a ``state_dict`` into the tensors in place (within ``scope``, once initialised).

        Parameters that appeared after that state are removed, those that it has are added.

        Raises:
            UserError: the checkpoint is of a program with other parameters.
        """
        put_back(self, state)

    def buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The modules' buffers by name, not copies."""
        for role, module in self.modules():
            for name, buffer in module.named_buffers():
                yield f"{role}.{name}", buffer


def refuse_late(program: Program, late: Mapping[str, Tensor]) -> None:
    """Raise a ``UserError`` if parameters may not appear now, or a module hides one."""
    roots = roots_parameters(model=program.model, guide=program.guide)
    unknown = others({**program.parameters, **late}, roots)
    if unknown and len(others(stored(), roots)) == len(roots):  # none is in pyro.module
        raise UserError(
            f"parameter {next(iter(unknown))!r} appears after the first batch, and is not "
            'registered: call pyro.module("name", module) in each run, or make it in the '
            "module's constructor"
        )
    if late and program.fixed_by:
        raise UserError(
            f"parameter {next(iter(late))!r} appears after the first batch, which "
            f"{program.fixed_by} cannot follow: call pyro.param for it in every batch, or leave "
            f"out {program.fixed_by}"
        )


def trace_aside(program: Program, batch: Batch) -> Trace | None:
    """The model's scored trace on other columns, or None where it fails; no state changed.

    Every call has the same noise.
    """
    store = pyro.get_param_store()
    with store.scope(store.get_state()), program.evaluation(), rng.forked(0):
        program.caches.forget()
        try:
            trace = poutine.trace(program.model).get_trace(**batch)
            trace.compute_log_prob()  # fails where sizes are fixed
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
            return None
    return trace


def find_plate(program: Program, traces: tuple[Trace, Trace], batch: Batch, rows: int) -> None:
    """Set ``plate`` and ``plate_size`` from the (model, guide) traces of a batch.

    Raises:
        UserError: as ``Program.initialise`` says of plates and rows.
    """
    frame = data_plate(traces[0], batch, rows, lambda: trace_aside(program, other_rows(batch)))
    check_size(frame, traces[0], length := row_count(batch), rows)
    if frame is None:
        refuse_uncovered(traces[0], batch, lambda columns: trace_aside(program, columns))
    program.nesting = max([1, *(-f.dim for f in frames_of(traces[0]).values())])
    if frame is not None:
        program.plate = frame.name
        program.plate_size = None if full_size(frame) == length < rows else full_size(frame)
    if frame is not None and length < rows:
        with program.evaluation():
            refuse_other_rows(program.guide, traces, frame, batch, program.parameters)


def accepted_columns(model: StochasticFunction, names: list[str]) -> list[str]:
    """The columns that the model takes as arguments.

    Raises:
        UserError: the model needs an argument that no column supplies, or takes none.
    """
    parameters = inspect.signature(_called(model)).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return names
    needed = [n for n, p in parameters.items() if p.default is p.empty and p.kind != 2]
    missing = [n for n in needed if n not in names]
    accepted = [n for n in names if n in parameters]
    if missing or not accepted:
        asked = ", ".join(parameters)
        raise UserError(
            f"the model's arguments are ({asked}) but the data's columns are {names}: "
            "name the columns after the arguments"
        )
    return accepted


def _called(callee: StochasticFunction) -> StochasticFunction:
    """The callable whose signature counts: a module's ``forward``."""
    if isinstance(callee, functools.partial):
        return functools.partial(_called(callee.func), *callee.args, **callee.keywords)
    return callee.forward if isinstance(callee, nn.Module) else callee


@contextmanager
def defaults(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Sets torch's default device and dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:  # no context on the CPU: it adds a Python call to each operation
        with nullcontext() if device.type == "cpu" else device:
            yield
    finally:
        torch.set_default_dtype(before)
