"""Refuses guides whose per-row latents belong to other rows than the batch's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine import Trace
from torch import Tensor

from inference.data.columns import Batch
from inference.engine.program.checks.plates import Frame, full_size
from inference.util import rng
from inference.util.errors import UserError
from inference.util.sites import base, sample_sites

GRADIENT_TOLERANCE = 1e-3  # relative, of squared gradients; other rows' differ far more


def refuse_other_rows(
    guide: Any, traces: tuple[Trace, Trace], frame: Frame, batch: Batch, named: dict[str, Tensor]
) -> None:
    """Raise a ``UserError`` where the guide's per-row latents are not those of the batch's rows.

    Args:
        guide: run in evaluation mode, its state restored.
        traces: of the model (replayed) and of the guide, on ``batch``.
        frame: the model's plate over the data.
        batch: a part of the data's rows.
        named: the parameters.
    """
    model_sites, guide_sites = map(sample_sites, traces)
    local = [n for n, site in model_sites.items() if n in guide_sites and _within(frame, site)]
    if not local or _draws_its_rows(traces[0], frame):
        return
    for name in local:
        _refuse_own_draw(traces[1], guide_sites[name], frame)
        _refuse_other_scale(name, model_sites[name], guide_sites[name])
    if parameter := ShiftTest(guide, traces[1], local, frame, named).misplaced(batch):
        raise UserError(
            f"parameter {parameter!r} of the guide belongs to positions in a batch, not to rows of "
            f"the data, which differ from batch to batch: {_remedy(frame)}"
        )


def _within(frame: Frame, site: Any) -> bool:
    own = any(f.name == frame.name for f in site["cond_indep_stack"])
    return own and not site["is_observed"]


def _draws_its_rows(trace: Trace, frame: Frame) -> bool:
    """Whether the plate subsamples by itself (``subsample_size=``)."""
    node: Any = trace.nodes.get(frame.name)
    size = node["fn"].subsample_size if node else None
    return size is not None and size < full_size(frame)


def _refuse_own_draw(trace: Trace, site: Any, frame: Frame) -> None:
    for own in site["cond_indep_stack"]:
        if own.size == frame.size and _draws_its_rows(trace, own):
            raise UserError(
                f"plate {own.name!r} of the guide draws {own.size} of {full_size(own)} rows, which "
                f"are not the batch's: {_remedy(frame)}"
            )


def _refuse_other_scale(name: str, model_site: Any, guide_site: Any) -> None:
    in_model, in_guide = map(_plates, (model_site, guide_site))
    if in_model != in_guide:
        raise UserError(
            f"latent {name!r} stands for {in_model} in the model and for {in_guide} in the guide: "
            "put the same plates, with the same size and subsample, around it in both"
        )


def _plates(site: Any) -> str:
    """The plates in words, by extent: their names may differ."""
    frames = sorted(site["cond_indep_stack"], key=lambda f: f.dim or 0)
    return " × ".join(f"{f.size} of {full_size(f)} rows" for f in frames) or "no plate"


def _remedy(frame: Frame) -> str:
    size = full_size(frame)
    return (
        f"fit all rows at once (batch_size=None); or add a column i=torch.arange({size}) that the "
        f"model takes, and write pyro.plate({frame.name!r}, {size}, subsample=i, dim={frame.dim}) "
        "in the guide (an autoguide's create_plates=lambda …, i: that plate)"
    )


@dataclass(frozen=True)
class ShiftTest:
    """Tests whether a guide's latents follow their rows when the batch is rolled by one row.

    Attributes:
        guide: the callable.
        trace: of the guide, whose draws are kept.
        local: names of the per-row latents.
        frame: the plate that they are in.
        named: the parameters.
    """

    guide: Any
    trace: Trace
    local: Sequence[str]
    frame: Frame
    named: dict[str, Tensor]

    def misplaced(self, batch: Batch) -> str | None:
        """The first parameter that is tied to a position in the batch, if there is one.

        If latents follow their rows, the parameters' gradients do not change under the roll.  A
        guide with noise other than its sites', or one that fails on reordered rows, is not tested.
        """
        try:
            before, again = self._pull(batch, 0, 1), self._pull(batch, 0, 2)
            after = self._pull({n: column.roll(1, 0) for n, column in batch.items()}, 1, 1)
        except (RuntimeError, ValueError, IndexError, NotImplementedError):
            return None
        if any(map(_differ, before, again)):
            return None
        pairs = zip(self.named, before, after, strict=True)
        return next((name for name, b, a in pairs if _differ(b, a)), None)

    def _pull(self, batch: Batch, places: int, seed: int) -> list[Tensor]:
        """Gradients of a weighted sum over rows of the latents' log-densities."""
        weights = torch.linspace(1, 2, self.frame.size, device=next(iter(batch.values())).device)
        weights = weights.roll(places).reshape(-1, *[1] * (-self.frame.dim - 1))
        with rng.forked(seed), torch.enable_grad():
            replayed = poutine.replay(self.guide, trace=self._moved(places))
            nodes = poutine.trace(replayed).get_trace(**batch).nodes
            told = [(weights * _told(nodes[n])).sum() for n in self.local if n in nodes]
            total = sum(told, torch.zeros(()))  # sites that exist only in training are absent
            parameters = list(self.named.values())
            found: Sequence[Tensor | None] = [None for _ in parameters]
            if total.requires_grad:
                found = torch.autograd.grad(total, parameters, allow_unused=True)
        return [torch.zeros(()) if g is None else g.to_dense() for g in found]

    def _moved(self, places: int) -> Trace:
        """The guide's draws, rolled along the rows; without the index draws of plates."""
        moved = Trace()
        for name, site in sample_sites(self.trace).items():
            dim = self.frame.dim - site["fn"].event_dim
            own = any(_plate(f) == _plate(self.frame) for f in site["cond_indep_stack"])
            value = site["value"].detach()
            value = value.roll(places, dim) if own or name in self.local else value
            moved.add_node(name, **{**site, "value": value})
        return moved


def _plate(frame: Frame) -> tuple[int, int, int]:
    return frame.dim, frame.size, full_size(frame)


def _told(site: Any) -> Tensor:
    """(batch shape) the log-density of a latent; of a Delta, its value."""
    fn = site["fn"]
    if not isinstance(base(fn), Delta):
        return fn.log_prob(site["value"])
    event = tuple(range(-fn.event_dim, 0))
    return base(fn).v.sum(event) if event else base(fn).v


def _differ(a: Tensor, b: Tensor) -> bool:
    size = float(a.square().sum() + b.square().sum())
    return float((a - b).square().sum()) > GRADIENT_TOLERANCE * size
