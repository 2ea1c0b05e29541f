"""A Pyro program under training: model, guide, their parameters, and the plate over the data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from inference.data.columns import Batch
from inference.util.errors import UserError
from inference.util.sites import sample_sites

Callee = Callable[..., Any]


class Program:
    """A model and guide with every parameter they own, wherever Pyro keeps it.

    Parameters of modules are found in the modules, those of ``pyro.param`` in a parameter store
    that belongs to this program alone: enter ``scope()`` before running model or guide.

    Attributes:
        parameters: name → unconstrained leaf tensor; filled by ``initialise``.
        plate_size: N of the plate over the data, or None where the plate is as long as the batch.
        plate: that plate's name, or None.
        nesting: number of plate dimensions, at least 1.
    """

    def __init__(self, model: Callee, guide: Callee) -> None:
        self.model, self.guide = model, guide
        self.store: Any = {"params": {}, "constraints": {}}
        self.parameters: dict[str, Tensor] = {}
        self.plate: str | None = None
        self.plate_size: int | None = None
        self.nesting = 1
        self.device, self.dtype = torch.device("cpu"), torch.get_default_dtype()
        self._entered = False

    @contextmanager
    def scope(self) -> Iterator[None]:
        """This program's parameter store, device and floating type; the caller's put back after.

        Within itself, it changes nothing.
        """
        if self._entered:
            yield
            return
        self._entered = True
        try:
            with (
                pyro.get_param_store().scope(self.store) as state,
                defaults(self.device, self.dtype),
            ):
                yield
            self.store = state
        finally:
            self._entered = False

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Model and guide, as far as they are modules."""
        for role in ("model", "guide"):
            if isinstance(module := getattr(self, role), nn.Module):
                yield role, module

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the modules; within ``scope``, functions make their own tensors there, too."""
        self.device, self.dtype = device, dtype
        for _, module in self.modules():
            module.to(device, dtype)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Without graph, and with the modules as ``eval()`` leaves them: no dropout."""
        parts = [part for _, module in self.modules() for part in module.modules()]
        before = [part.training for part in parts]
        for _, module in self.modules():
            module.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for part, training in zip(parts, before, strict=True):
                part.training = training

    def initialise(self, batch: Batch, rows: int) -> None:
        """Run once (within ``scope``, consuming no randomness): find parameters and data plate.

        Raises:
            UserError: model and guide differ in their latent sites, a plate has the wrong size, or
                a global latent is used with an unscaled plate.
        """
        with poutine.trace(param_only=True) as capture, torch.no_grad():
            trace, guide_trace = self.traces(batch)
        _refuse_mismatch(sample_sites(trace), sample_sites(guide_trace))
        self.parameters = dict(_module_parameters(self) | _store_parameters(self, capture.trace))
        if not self.parameters:
            raise UserError("neither model nor guide has a parameter: there is nothing to fit")
        length = len(next(iter(batch.values())))
        self._find_plate(trace, length, rows)

    def traces(self, batch: Batch) -> tuple[Trace, Trace]:
        """One draw of the guide, and the model replayed on it: (model trace, guide trace)."""
        guide_trace = poutine.trace(self.guide).get_trace(**batch)
        replayed = poutine.replay(self.model, trace=guide_trace)
        return poutine.trace(replayed).get_trace(**batch), guide_trace

    def datum_count(self, batch: Batch) -> int:
        """How many data the ELBO of this batch speaks for: N, or the batch's own length."""
        return self.plate_size or len(next(iter(batch.values())))

    def values(self) -> dict[str, Tensor]:
        """Constrained parameter values by name, detached copies."""
        with self.scope():
            store = pyro.get_param_store()
            named = {n: store[n] if n in store else p for n, p in self.parameters.items()}  # noqa: SIM401
            return {name: value.detach().clone() for name, value in named.items()}

    def state_dict(self) -> dict[str, Any]:
        """Parameters, buffers and everything else in the store (within ``scope``)."""
        store = pyro.get_param_store()
        return {
            "parameters": {n: p.detach().clone() for n, p in self.parameters.items()},
            "buffers": {n: b.clone() for n, b in self.buffers()},
            "store": {n: store._params[n].detach().clone() for n in store},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy a ``state_dict`` into the living tensors (within ``scope``, once initialised).

        Raises:
            UserError: the checkpoint is of a program with other parameters.
        """
        saved = state["parameters"]
        wrong = sorted(saved.keys() ^ self.parameters.keys()) or [
            n for n in saved if saved[n].shape != self.parameters[n].shape
        ]
        if wrong:
            raise UserError(
                f"the checkpoint is of another program: parameter {wrong[0]!r} differs; "
                "choose another directory for this one"
            )
        buffers, store = dict(self.buffers()), pyro.get_param_store()
        with torch.no_grad():
            for living, kept in ((self.parameters, saved), (buffers, state["buffers"])):
                for name, value in kept.items():
                    living[name].copy_(value)
            for name, value in state["store"].items():
                if name not in store:  # an estimator's own, such as a decaying baseline
                    store[name] = value
                elif name not in saved:
                    store._params[name].data.copy_(value)

    def buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The modules' buffers by name, living."""
        for role, module in self.modules():
            for name, buffer in module.named_buffers():
                yield f"{role}.{name}", buffer

    def _find_plate(self, trace: Trace, length: int, rows: int) -> None:
        sites = sample_sites(trace)
        frames = [f for site in sites.values() for f in site["cond_indep_stack"] if f.vectorized]
        self.nesting = max([1, *(-f.dim for f in frames)])
        found = next((f for f in frames if f.size == length), None)
        if found is None:
            if length < rows:
                raise UserError(
                    f"no plate runs over the batch's {length} rows: put the data's sites in "
                    f'pyro.plate("data", {rows}, subsample=column), or fit the whole data at once '
                    "(batch_size=None), in one process"
                )
            return
        self.plate = found.name
        if found.full_size not in (length, rows):
            raise UserError(
                f"plate {found.name!r} has size {found.full_size}, but the data have {rows} rows: "
                f"give it size={rows}"
            )
        self.plate_size = None if found.full_size == length < rows else found.full_size
        if self.plate_size is None:
            self._refuse_unscaled_globals(sites, rows)

    def _refuse_unscaled_globals(self, sites: dict[str, Any], rows: int) -> None:
        for name, site in sites.items():
            inside = any(f.name == self.plate for f in site["cond_indep_stack"])
            if not site["is_observed"] and not inside:
                raise UserError(
                    f"site {name!r} lies outside plate {self.plate!r}, which is only as long as "
                    f"the batch: give the plate size={rows}, or the batch's terms are not scaled "
                    "to the whole data"
                )


def accepted_columns(model: Callee, names: list[str]) -> list[str]:
    """Those columns that the model takes as arguments.

    Raises:
        UserError: the model needs an argument that no column supplies, or takes none.
    """
    called = model.forward if isinstance(model, nn.Module) else model
    parameters = inspect.signature(called).parameters
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


def _refuse_mismatch(model: dict[str, Any], guide: dict[str, Any]) -> None:
    for name, site in guide.items():
        if name not in model and not site["infer"].get("is_auxiliary"):
            raise UserError(
                f"site {name!r} of the guide is not in the model: name it after the latent that it "
                'draws, or mark it infer={"is_auxiliary": True}'
            )
    for name, site in model.items():
        if not site["is_observed"] and name not in guide and not site["infer"].get("enumerate"):
            raise UserError(
                f"latent site {name!r} of the model is not in the guide: draw it there, or "
                "enumerate it (pyro.infer.config_enumerate with TraceEnum_ELBO)"
            )


@contextmanager
def defaults(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Device and floating type of tensors that a program makes without saying where."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:  # on the CPU, no context: it would cost a Python call in each of torch's
        with nullcontext() if device.type == "cpu" else device:
            yield
    finally:
        torch.set_default_dtype(before)


def _module_parameters(program: Program) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for role, module in program.modules():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and all(parameter is not p for p in found.values()):
                found[f"{role}.{name}"] = parameter
    return found


def _store_parameters(program: Program, trace: Trace) -> dict[str, Tensor]:
    known = {id(p) for p in _module_parameters(program).values()}
    found = {}
    for name, site in trace.nodes.items():
        value: Any = site["value"]
        leaf = value.unconstrained() if hasattr(value, "unconstrained") else value
        if leaf.requires_grad and id(leaf) not in known:
            found[name] = leaf
    return found
