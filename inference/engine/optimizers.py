"""torch's and Pyro's optimisers, for parameters that may appear at any step."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import pyro
import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from inference.util.errors import UserError

Named = Mapping[str, Tensor]
OptimizerFactory = Callable[[list[Tensor]], torch.optim.Optimizer]
Optimizable = OptimizerFactory | PyroOptim
FACTORY = "give what makes one: functools.partial(torch.optim.Adam, lr=1e-3)"


class OptimizerAdapter(Protocol):
    """The interface of an optimiser to the training loop."""

    def follow(self, named: Named) -> None:
        """Update these parameters from now on; new ones begin with a fresh state."""

    def scale_rates(self, factor: float) -> None:
        """Set the learning rates to this share of those given."""

    def step(self, count: Callable[[], int]) -> None:
        """Update by the gradients, nats per datum, of a loss over ``count()`` data."""

    def end_epoch(self) -> None:
        """Called after each pass over the data."""

    def identity(self) -> dict[str, str]:
        """The optimiser's class and options."""

    def state_dict(self) -> Any:
        """All state that a step changes."""

    def load_state_dict(self, state: Any, named: Named) -> None:
        """Restore a state; ``named`` holds all parameters in it."""


def adapter_of(optimizer: Optimizable, many: bool = False) -> OptimizerAdapter:
    """The adapter of ``fit``'s ``optimizer``; ``many``: parameters are stacked over seeds.

    Raises:
        UserError: it is no optimiser that ``fit`` supports.
    """
    if isinstance(optimizer, PyroOptim):
        moving = _of_pyro(optimizer)
        if many and isinstance(moving, PyroAdapter):
            raise UserError(
                "seeds_at_once stacks the seeds' parameters, which this pyro.optim would treat as "
                "one: give a torch optimizer, or leave out seeds_at_once"
            )
        return moving
    if isinstance(optimizer, torch.optim.Optimizer | LRScheduler | ReduceLROnPlateau):
        raise UserError(f"the optimizer is a finished {type(optimizer).__name__}: {FACTORY}")
    if not callable(optimizer):
        raise UserError(f"the optimizer is a {type(optimizer).__name__}: {FACTORY}")
    return TorchAdapter(optimizer)


class TorchAdapter:
    """A torch optimiser for the first parameters, and one more for each group that appears later.

    Args:
        factory: parameters → torch optimiser.
        follows_sum: step by the gradient of the whole loss, as Pyro's SVI does, not per datum.
    """

    def __init__(self, factory: OptimizerFactory, follows_sum: bool = False) -> None:
        self.factory, self.follows_sum = factory, follows_sum
        self.generations: list[tuple[list[str], torch.optim.Optimizer, list[Any]]] = []
        self.named: dict[str, Tensor] = {}
        self.factor = 1.0

    def follow(self, named: Named) -> None:
        """Make an optimiser for the new parameters."""
        if len(named) == len(self.named):
            return
        new = [name for name in named if name not in self.named]
        self.named |= {name: named[name] for name in new}
        optimizer = _made(self.factory, [named[name] for name in new])
        rates = [group.get("lr") for group in optimizer.param_groups]
        self.generations.append((new, optimizer, rates))

    def scale_rates(self, factor: float) -> None:
        """Scale the rate of each parameter group, unless the factor is always 1.

        Raises:
            UserError: the optimiser changes its rates by itself.
        """
        if factor == self.factor == 1:
            return
        for _, optimizer, rates in self.generations:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                if rate is None or group["lr"] not in (rate, rate * self.factor):
                    raise UserError(
                        f"{type(optimizer).__name__} changes its learning rate itself: leave out "
                        "the schedule, or that option"
                    )
                group["lr"] = rate * factor
        self.factor = factor

    def step(self, count: Callable[[], int]) -> None:
        """One step of each optimiser."""
        if self.follows_sum:
            multiply(list(self.named.values()), count())
        for _, optimizer, _ in self.generations:
            optimizer.step()

    def end_epoch(self) -> None:
        """Does nothing: rates follow the fit's schedule."""

    def identity(self) -> dict[str, str]:
        """The class, and the options of its first parameter group."""
        group = self.generations[0][1].param_groups[0]
        return {
            "class": self._class(),
            **plainly({k: v for k, v in group.items() if k != "params"}),
        }

    def state_dict(self) -> Any:
        """For each optimiser, its parameters' names and torch's state."""
        states = [(names, optimizer.state_dict()) for names, optimizer, _ in self.generations]
        return {"generations": states, "factor": self.factor, "class": self._class()}

    def load_state_dict(self, state: Any, named: Named) -> None:
        """Make the optimisers again and load their states."""
        self.generations, self.named = [], {}
        for names, _ in state["generations"]:
            self.follow(self.named | {name: named[name] for name in names})
        if (before := state.get("class", self._class())) != self._class():
            raise UserError(
                f"the checkpoint is of a training by {before}, not {self._class()}: give that "
                "optimizer, or --overwrite starts anew"
            )
        for (_, optimizer, _), (_, its) in zip(self.generations, state["generations"], strict=True):
            groups = [g.keys() for s in (its, optimizer.state_dict()) for g in s["param_groups"]]
            if any(keys != groups[0] for keys in groups):
                raise KeyError(*groups[0] ^ groups[-1])
            optimizer.load_state_dict(its)
        self.factor = state["factor"]

    def _class(self) -> str:
        return type(self.generations[0][1]).__name__


class PyroAdapter:
    """An optimiser of ``pyro.optim``: a torch optimiser, and clipping, for each parameter.

    As in Pyro's SVI it follows the gradient of the whole loss, so that clipping thresholds have the
    same meaning.  Its scheduler, if it has one, steps after each epoch.
    """

    def __init__(self, optimizer: PyroOptim) -> None:
        self.optimizer: Any = copy.copy(optimizer)
        self.optimizer.optim_objs, self.optimizer.grad_clip = {}, {}
        self.named: dict[str, Tensor] = {}

    def follow(self, named: Named) -> None:
        """New parameters get an optimiser when they are first used."""
        if len(named) != len(self.named):
            self.named = dict(named)

    def scale_rates(self, factor: float) -> None:
        """Refused: these optimisers have rates of their own."""
        if factor != 1:
            raise UserError(
                "schedule sets one learning rate, and this pyro.optim has rates, or a scheduler, "
                "for each parameter: leave out one of the two"
            )

    def step(self, count: Callable[[], int]) -> None:
        """Update every parameter that the batch used."""
        used = {name: p for name, p in self.named.items() if p.grad is not None}
        multiply(list(used.values()), count())
        for name, parameter in used.items():
            if parameter not in self.optimizer.optim_objs:
                self._begin(name, parameter)
        self.optimizer(list(used.values()))

    def end_epoch(self) -> None:
        """The scheduler's step."""
        if isinstance(self.optimizer, PyroLRScheduler):
            self.optimizer.step()

    def identity(self) -> dict[str, str]:
        """The class and its arguments; of a function that gives them, the name."""
        found = {"class": self.optimizer.pt_optim_constructor.__name__}
        for name in ("pt_optim_args", "pt_clip_args", "kwargs"):
            part = getattr(self.optimizer, name, None) or {}
            found |= {name: part.__qualname__} if callable(part) else plainly(part)
        if scheduler := getattr(self.optimizer, "pt_scheduler_constructor", None):
            found["scheduler"] = scheduler.__name__
        return found

    def state_dict(self) -> Any:
        """The optimiser's state of each updated parameter."""
        made = self.optimizer.optim_objs
        return {name: _states(made[p]) for name, p in self.named.items() if p in made}

    def load_state_dict(self, state: Any, named: Named) -> None:
        """Make the optimisers again and load their states."""
        self.follow(named)
        for name, its in state.items():
            made = self._begin(name, named[name])
            for part, kept in zip(_chain(made), its, strict=True):
                part.load_state_dict(kept)

    def _begin(self, name: str, parameter: Tensor) -> Any:
        """Make the parameter's optimiser or scheduler, and its clipping."""
        store = pyro.get_param_store()
        if store.param_name(parameter) is None:  # callable optim_args may use the name
            store._param_to_name[parameter] = name
        pyros = self.optimizer
        with _sentences():
            made = pyros.optim_objs[parameter] = pyros._get_optim(parameter)
            pyros.grad_clip[parameter] = pyros._get_grad_clip(parameter)
        _refuse_rates(_chain(made)[0])
        return made


def plainly(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as text."""
    return {name: repr(value) for name, value in options.items()}


def multiply(parameters: Sequence[Tensor], count: int) -> None:
    """Multiply gradients per datum by ``count``, in place."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    dense = [g for g in gradients if not g.is_sparse]
    if dense:
        torch._foreach_mul_(dense, float(count))
    for gradient in gradients:
        if gradient.is_sparse:
            gradient.mul_(count)


def _of_pyro(optimizer: PyroOptim) -> OptimizerAdapter:
    """One torch optimiser for all parameters where results are the same, which is faster."""
    constructor: Any = optimizer.pt_optim_constructor
    arguments = optimizer.pt_optim_args
    if isinstance(optimizer, PyroLRScheduler):
        if optimizer.pt_scheduler_constructor is ReduceLROnPlateau:
            raise UserError(
                "ReduceLROnPlateau needs a figure that fit does not give it: use another scheduler "
                "of pyro.optim, or fit's schedule, or its patience"
            )
    elif type(optimizer) is not PyroOptim:
        raise UserError(f"fit cannot step with a {type(optimizer).__name__}: {FACTORY}")
    elif _is_torchs(constructor) and isinstance(arguments, dict) and not optimizer.pt_clip_args:
        return TorchAdapter(functools.partial(constructor, **arguments), follows_sum=True)
    return PyroAdapter(optimizer)


def _is_torchs(constructor: Any) -> bool:
    return getattr(constructor, "__module__", "").startswith("torch.optim")


def _made(factory: OptimizerFactory, parameters: list[Tensor]) -> torch.optim.Optimizer:
    with _sentences():
        optimizer = factory(parameters)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise UserError("LBFGS evaluates a step many times, which SVI's noise forbids: use Adam")
    if isinstance(optimizer, LRScheduler | ReduceLROnPlateau):
        raise UserError(
            "the optimizer makes a scheduler: give what makes the optimizer alone, and "
            "schedule=progress → factor beside it"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(f"the optimizer makes a {type(optimizer).__name__}: {FACTORY}")
    _refuse_rates(optimizer)
    return optimizer


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn torch's and Pyro's errors about options into a ``UserError``."""
    try:
        yield
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"the optimizer cannot be made: {error}") from error


def _refuse_rates(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        if not math.isfinite(rate := float(group.get("lr", 0.0))):
            raise UserError(f"the learning rate is {rate}: give a finite one")


def _chain(made: Any) -> list[Any]:
    """The optimisers to save: an optimiser alone, or a scheduler's optimiser and the scheduler."""
    return [made.optimizer, made] if hasattr(made, "optimizer") else [made]


def _states(made: Any) -> list[Any]:
    return [part.state_dict() for part in _chain(made)]
