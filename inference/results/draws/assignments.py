"""Draws of the latents that the model enumerates, given the data and the guide's draws."""

from __future__ import annotations

from pyro import poutine
from pyro.infer import infer_discrete

from inference.data.columns import Batch
from inference.results.draws.joint import Draws
from inference.results.draws.marginals import Parallel
from inference.results.draws.sampler import Fixed, Sampler, whole_plates
from inference.results.draws.sites import Sites, joined, recorded
from inference.util.progress import Bar


def assignments(sampler: Sampler, batch: Batch, draws: Draws, progress: bool) -> Sites:
    """Each enumerated latent's value in each draw, by Pyro's ``infer_discrete``; one run a draw."""
    if not draws.summed:
        return {}
    rank, _ = sampler.single(batch)
    parts = []
    with Bar("assignments", draws.count, progress) as bar, whole_plates(batch):
        for k in range(draws.count):
            guide = Fixed(draws.values(k))(sampler.guide)
            trace = poutine.trace(guide).get_trace(**batch)
            marked = Parallel(draws.summed)(poutine.replay(sampler.program.model, trace=trace))
            assigned = infer_discrete(marked, first_available_dim=-1 - rank)
            found = poutine.trace(assigned).get_trace(**batch)
            others = found.nodes.keys() - draws.summed
            parts.append(recorded(found, rank, leave_out=others))
            if bar.due:
                bar.update(k + 1)
    return joined(parts, [1] * draws.count)
