"""Draws of a program: together where that is checked to be right, else one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import SubsampleMessenger
from torch import Tensor

from inference.data.columns import Batch
from inference.engine.program.program import Program
from inference.engine.training.validation import EVALUATION_SEED
from inference.estimators.programs import ordinary
from inference.results.draws.checks import difference
from inference.results.draws.joint import Draws
from inference.results.draws.marginals import enumerated, marginals, summed_over
from inference.results.draws.sites import (
    Sites,
    batch_rank,
    is_deterministic,
    kind_of,
    recorded,
)
from inference.util import rng
from inference.util.progress import Bar
from inference.util.sites import sample_sites

PARTICLES = "_particles"  # name of the plate of draws
CHUNK_ELEMENTS = 2_000_000  # numbers in the largest tensor of one chunk: it stays in cache
COMPARED = 8  # draws of each size of chunk that are run again, alone
FEW = 2  # so many draws are run alone at once

Callee = Callable[..., Any]


class Fixed(Messenger):
    """Gives drawn sites these values; a Delta keeps its own."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not (msg["is_observed"] or msg["done"]):
            fn = msg["fn"]
            msg["value"] = self.values[str(msg["name"])].reshape(fn.batch_shape + fn.event_shape)
            msg["done"] = True


class DrawObserved(Messenger):
    """Observed sites are drawn; what other sites determine, and factors, stay."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] and kind_of(msg) == "observed":
            fn, value = msg["fn"], msg["value"]
            shape = value.shape[: value.dim() - fn.event_dim]  # a plate need not say how many
            if shape != fn.batch_shape:
                msg["fn"] = fn.expand(torch.broadcast_shapes(fn.batch_shape, shape))
            msg["is_observed"], msg["value"], msg["done"] = False, None, False


class Sampler:
    """Draws of a program, for as many batches as are asked for.

    The reference is one run a draw; the fast way is one run for all draws of a chunk, in a plate
    left of the program's own.  Of the first chunk of each size and shape, some draws are run again
    alone: unless all sites agree in values and log-probabilities, all are taken one by one.

    Args:
        program: run within ``looking``.
        predict: draw the observed sites anew, too.
        progress: show a bar when draws are taken one by one.

    Attributes:
        reason: why draws are taken one by one; None if they are not.
    """

    def __init__(self, program: Program, predict: bool = False, progress: bool = False) -> None:
        self.program, self.predict, self.progress = program, predict, progress
        self.guide = ordinary(program.guide)
        self.reason: str | None = None
        self._known: dict[Any, tuple[int, Draws]] = {}  # a single run for each shape of batch
        self._agreed: set[Any] = set()

    def draw(self, batch: Batch, count: int) -> Iterator[Draws]:
        """K draws, in parts."""
        done = 0
        while count - done > FEW and (part := self._together(batch, count - done)) is not None:
            yield part
            done += part.count
        bar = Bar(f"{count} draws, one by one", count, self.progress and count - done > FEW)
        bar.start = done
        with bar:
            for k in range(done, count):
                yield self.run(batch, scored=False)
                if bar.due:
                    bar.update(k + 1)

    def single(self, batch: Batch) -> tuple[int, Draws]:
        """(number of batch dimensions, one draw) for this shape of batch, of noise of its own."""
        key = shapes(batch)
        if key not in self._known:
            with rng.forked():
                draws = self.run(batch)
            self._known[key] = rank_of(draws), draws
        return self._known[key]

    def run(
        self,
        batch: Batch,
        count: int | None = None,
        values: Mapping[str, Tensor] | None = None,
        scored: bool = True,
    ) -> Draws:
        """One run: a single draw, or ``count`` draws in a plate.

        Args:
            batch: columns.
            count: how many draws; None for one, without a plate.
            values: of drawn sites, not to be drawn anew.
            scored: give log-probabilities of the predicted sites, too.
        """
        rank, known = self._known.get(shapes(batch), (0, None))
        self.program.caches.forget()
        with whole_plates(batch):
            traces = self._traces(batch, count, rank, Fixed(values or {}))
            guide_trace, model_trace, _ = traces
            rank = rank or batch_rank((guide_trace, model_trace))
            summed = summed_over(model_trace, guide_trace)
            sums: Sites = {}
            taken: set[str] = set()
            if summed:
                model = under_plate(self.program.model, count, rank)
                wide = rank + 1 if count else rank
                program = enumerated(model, guide_trace, summed, wide)
                model_trace = poutine.trace(program).get_trace(**batch)
                sums, taken = marginals(model_trace, rank)
        event_dims = {n: s.event_dim for n, s in known.model.items()} if known else {}
        wide_ones = unfit(model_trace, traces[1]) if summed else set()
        model_sites = recorded(model_trace, rank, event_dims, summed | wide_ones, taken)
        return Draws(
            count or 1,
            recorded(guide_trace, rank),
            model_sites,
            sums,
            self._predicted(traces, rank, scored),
            frozenset(summed),
        )

    def _traces(
        self, batch: Batch, count: int | None, rank: int, fixed: Fixed
    ) -> tuple[Trace, Trace, Trace | None]:
        """(guide's, model's, model's with its observed sites drawn)."""
        guide = fixed(under_plate(self.guide, count, rank))
        guide_trace = poutine.trace(guide).get_trace(**batch)
        model = under_plate(self.program.model, count, rank)
        replayed = fixed(poutine.replay(model, trace=guide_trace))
        model_trace = poutine.trace(replayed).get_trace(**batch)
        if not self.predict:
            return guide_trace, model_trace, None
        latents = model_trace.copy()
        for name, site in model_trace.nodes.items():
            if site["type"] == "sample" and site["is_observed"]:
                latents.remove_node(name)
        free = fixed(poutine.replay(DrawObserved()(model), trace=latents))
        return guide_trace, model_trace, poutine.trace(free).get_trace(**batch)

    def _predicted(
        self, traces: tuple[Trace, Trace, Trace | None], rank: int, scored: bool
    ) -> Sites:
        guide_trace, _, free = traces
        if free is None:
            return {}
        others = {n for n, s in sample_sites(free).items() if kind_of(s) != "latent"}
        drawn = sample_sites(free).keys() - others
        left_out = others | (drawn & guide_trace.nodes.keys())
        return recorded(free, rank, leave_out=left_out, unscored=() if scored else drawn)

    def _together(self, batch: Batch, count: int) -> Draws | None:
        """At most ``count`` draws in one run; None where draws must be taken one by one."""
        if self.reason is not None:
            return None
        _, single = self.single(batch)
        if factors := [n for n, s in single.guide.items() if s.kind == "factor"]:
            self.reason = (
                f"site {factors[0]!r} is a pyro.factor of the guide, for something that may be "
                "drawn outside of Pyro"
            )
            return None
        count = min(count, largest_chunk(single))
        key = (count, shapes(batch))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a run that may be given up
                draws = self.run(batch, count, scored=key not in self._agreed)
                if key not in self._agreed:
                    self.reason = self._difference(batch, draws)
        except Exception as error:  # whatever a program raises that is not made for a plate
            line = str(error).strip().partition("\n")[0]
            self.reason = f"the program does not run with several draws at once ({line})"
        if self.reason is not None:
            return None
        self._agreed.add(key)
        return draws

    def _difference(self, batch: Batch, draws: Draws) -> str | None:
        """Where a few of the draws, each run alone, differ from what the run of all gave."""
        count = min(COMPARED, draws.count)
        for k in torch.linspace(0, draws.count - 1, count, device="cpu").long().tolist():
            with rng.forked():
                alone = self.run(batch, values=draws.values(k))
            if reason := difference(draws, alone, k):
                return reason
        return None


def shapes(batch: Batch) -> Any:
    """What the arrays of a run depend on."""
    return tuple((name, tuple(column.shape)) for name, column in batch.items())


def rank_of(draws: Draws) -> int:
    """The number of batch dimensions of a single draw."""
    sites = (s for _, sites in draws.sides() for s in sites.values())
    return next(s.log_prob.dim() - 1 for s in sites if s.log_prob is not None)


def largest_chunk(single: Draws) -> int:
    """How many draws are taken at once."""
    sites = [site for _, side in single.sides() for site in side.values()]
    tensors = [t for site in sites for t in (site.value, site.log_prob) if t is not None]
    return max(1, CHUNK_ELEMENTS // max(1, *(t.numel() for t in tensors)))


def under_plate(program: Callee, count: int | None, rank: int) -> Callee:
    """The program in an outer plate of K draws, left of its own dimensions; itself for None."""
    if count is None:
        return program

    def plated(**columns: Tensor) -> Any:
        with pyro.plate(PARTICLES, count, dim=-1 - rank):
            return program(**columns)

    return plated


def unfit(enumerated: Trace, plain: Trace) -> set[str]:
    """Sites that latents which are summed over determine: they have a value for each of theirs."""
    sites = sample_sites(plain)
    return {
        name
        for name, site in sample_sites(enumerated).items()
        if is_deterministic(site) and site["value"].shape != sites[name]["value"].shape
    }


@contextmanager
def looking(program: Program) -> Iterator[None]:
    """For runs that leave nothing behind: no graph, noise, parameter, mode or buffer."""
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation():
        store = pyro.get_param_store()
        with store.scope(store.get_state()):
            yield


@contextmanager
def whole_plates(batch: Batch) -> Iterator[None]:
    """Plates that would draw a subsample of their own take all of their indices, in order.

    Raises:
        UserError: such a plate has another size than the batch, and no plate has the batch's.
    """
    rows = len(next(iter(batch.values())))
    messenger: Any = SubsampleMessenger  # the size that a program states is out of handlers' reach
    original = messenger._subsample

    def whole(
        name: str, size: int | None = None, subsample_size: int | None = None, *others: Any
    ) -> Any:
        given = others[0] if others else None
        if size is not None and given is None and subsample_size not in (None, rows):
            subsample_size = None
        return original(name, size, subsample_size, *others)

    messenger._subsample = staticmethod(whole)
    try:
        yield
    finally:
        messenger._subsample = staticmethod(original)
