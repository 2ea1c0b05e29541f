"""Draws of a program: vectorised where that is checked to be equal, else one by one."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
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
from inference.estimators.programs import StochasticFunction, ordinary
from inference.results.draws.checks import draw_difference
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
from inference.util.errors import UserError
from inference.util.progress import Bar
from inference.util.sites import sample_sites

DRAWS_PLATE = "_particles"  # name of the plate of draws
CHUNK_ELEMENTS = 2_000_000  # numbers in the largest tensor of a chunk, to fit the cache
CHECKED_DRAWS = 8  # draws of each size of chunk that are compared with single runs
MAX_ALONE = 2  # so few draws are not vectorised


class Fixed(Messenger):
    """Sets latent sites to these values; a Delta keeps its own."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not (msg["is_observed"] or msg["done"]):
            fn = msg["fn"]
            msg["value"] = self.values[str(msg["name"])].reshape(fn.batch_shape + fn.event_shape)
            msg["done"] = True


class DrawObserved(Messenger):
    """Draws observed sites; deterministic sites and factors stay observed."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] and kind_of(msg) == "observed":
            fn, value = msg["fn"], msg["value"]
            shape = value.shape[: value.dim() - fn.event_dim]  # a plate may have no size
            if shape != fn.batch_shape:
                msg["fn"] = fn.expand(torch.broadcast_shapes(fn.batch_shape, shape))
            msg["is_observed"], msg["value"], msg["done"] = False, None, False


class Sampler:
    """Draws from a program, batch by batch.

    The reference is one run a draw; the fast way is one run for a chunk of draws, in a plate to the
    left of the program's own.  Some draws of the first chunk of each size and shape are repeated as
    single runs: unless values and log-probabilities of all sites agree, all draws are made one by
    one.

    Args:
        program: run within ``isolated``, which restores its state.
        predict: also draw the observed sites from the model.
        progress: show a bar when draws are made one by one.

    Attributes:
        reason: why draws are made one by one; None if they are vectorised.
    """

    def __init__(self, program: Program, predict: bool = False, progress: bool = False) -> None:
        self.program, self.predict, self.progress = program, predict, progress
        self.guide = ordinary(program.guide)
        self.reason: str | None = None
        self._known: dict[Any, tuple[int, Draws]] = {}  # a single run for each shape of batch
        self._agreed: set[Any] = set()

    def draw(self, batch: Batch, count: int) -> Iterator[Draws]:
        """K draws, in chunks."""
        done = 0
        while (
            count - done > MAX_ALONE and (part := self._together(batch, count - done)) is not None
        ):
            yield part
            done += part.count
        bar = Bar(f"{count} draws, one by one", count, self.progress and count - done > MAX_ALONE)
        bar.start = done
        with bar:
            for k in range(done, count):
                yield self.run(batch, scored=False)
                if bar.due:
                    bar.update(k + 1)

    def single(self, batch: Batch) -> tuple[int, Draws]:
        """(number of batch dimensions, one draw) for this shape of batch, with separate noise."""
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
            values: of latent sites, to use instead of draws.
            scored: also compute log-probabilities of the predicted sites.
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
            predicted(traces, rank, scored),
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

    def _together(self, batch: Batch, count: int) -> Draws | None:
        """At most ``count`` draws in one run; None where draws must be made one by one."""
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
                warnings.simplefilter("ignore")  # the run may be discarded
                draws = self.run(batch, count, scored=key not in self._agreed)
                if key not in self._agreed:
                    self.reason = self._difference(batch, draws)
        except Exception as error:  # a program that cannot be vectorised may raise anything
            line = str(error).strip().partition("\n")[0]
            self.reason = f"the program does not run with several draws at once ({line})"
        if self.reason is not None:
            return None
        self._agreed.add(key)
        return draws

    def _difference(self, batch: Batch, draws: Draws) -> str | None:
        """How single runs of some draws differ from the vectorised run; None if they do not."""
        count = min(CHECKED_DRAWS, draws.count)
        for k in torch.linspace(0, draws.count - 1, count, device="cpu").long().tolist():
            with rng.forked():
                alone = self.run(batch, values=draws.values(k))
            if reason := draw_difference(draws, alone, k):
                return reason
        return None


def predicted(traces: tuple[Trace, Trace, Trace | None], rank: int, scored: bool) -> Sites:
    """The sites that only the third trace draws; see ``Sampler._traces``."""
    guide_trace, _, free = traces
    if free is None:
        return {}
    others = {n for n, s in sample_sites(free).items() if kind_of(s) != "latent"}
    drawn = sample_sites(free).keys() - others
    left_out = others | (drawn & guide_trace.nodes.keys())
    return recorded(free, rank, leave_out=left_out, unscored=() if scored else drawn)


def shapes(batch: Batch) -> Any:
    """The shapes of a batch: a key of its draws' shapes."""
    return tuple((name, tuple(column.shape)) for name, column in batch.items())


def rank_of(draws: Draws) -> int:
    """The number of batch dimensions of a single draw."""
    sites = (s for _, sites in draws.sides() for s in sites.values())
    return next(s.log_prob.dim() - 1 for s in sites if s.log_prob is not None)


def largest_chunk(single: Draws) -> int:
    """How many draws to make in one run."""
    sites = [site for _, side in single.sides() for site in side.values()]
    tensors = [t for site in sites for t in (site.value, site.log_prob) if t is not None]
    return max(1, CHUNK_ELEMENTS // max(1, *(t.numel() for t in tensors)))


def under_plate(program: StochasticFunction, count: int | None, rank: int) -> StochasticFunction:
    """The program in a plate of K draws, left of all its dimensions; unchanged for None."""
    if count is None:
        return program

    def plated(**columns: Tensor) -> Any:
        with pyro.plate(DRAWS_PLATE, count, dim=-1 - rank):
            return program(**columns)

    return plated


def unfit(enumerated: Trace, plain: Trace) -> set[str]:
    """Deterministic sites with enumerated parents, which have a value for each of theirs."""
    sites = sample_sites(plain)
    return {
        name
        for name, site in sample_sites(enumerated).items()
        if is_deterministic(site) and site["value"].shape != sites[name]["value"].shape
    }


@contextmanager
def isolated(program: Program) -> Iterator[None]:
    """Run within: no autograd graph; generators, parameters, modes and buffers are restored."""
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation():
        store = pyro.get_param_store()
        with store.scope(store.get_state()):
            yield


@contextmanager
def whole_plates(batch: Batch) -> Iterator[None]:
    """Makes plates that subsample by themselves take all indices, in order.

    Raises:
        UserError: such a plate has another size than the batch, and no plate has the batch's.
    """
    rows = len(next(iter(batch.values())))
    messenger: Any = SubsampleMessenger  # handlers cannot change a plate's size
    original = messenger._subsample
    own: dict[str, int] = {}
    sizes: set[int | None] = set()

    def whole(
        name: str, size: int | None = None, subsample_size: int | None = None, *others: Any
    ) -> Any:
        given = others[0] if others else None
        if size is not None and given is None and subsample_size not in (None, rows):
            own[name], subsample_size = size, None
        found = original(name, size, subsample_size, *others)
        sizes.add(found[1])
        return found

    messenger._subsample = staticmethod(whole)
    try:
        yield
        refuse_other_size(own, sizes, rows)
    except IndexError:
        refuse_other_size(own, sizes, rows)
        raise
    finally:
        messenger._subsample = staticmethod(original)


def refuse_other_size(own: Mapping[str, int], sizes: Collection[int | None], rows: int) -> None:
    """Raise a ``UserError`` if plates subsample by themselves, and none has the data's size.

    Args:
        own: name → size of each plate that does.
        sizes: of all plates.
        rows: of the data.
    """
    if own and rows not in sizes:
        name, size = next(iter(own.items()))
        raise UserError(
            f"plate {name!r} takes its own rows, {size} in all, but the data have {rows}: give as "
            "many, or give the plate subsample=column in place of subsample_size"
        )
