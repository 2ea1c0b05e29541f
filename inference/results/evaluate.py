"""What a guide is worth: importance-weighted bounds, k-hat of its weights, active units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor

from inference.data.columns import Batch, Columns, Streamed, as_columns, slices
from inference.engine.program.program import Program
from inference.engine.training.validation import EVALUATION_SEED
from inference.estimators.exact import Enumerate
from inference.results.arviz_versions import psis_khat
from inference.util import rng
from inference.util.errors import UserError
from inference.util.progress import Bar
from inference.util.sites import sample_sites

CHUNK_ELEMENTS = 2_000_000  # numbers in the largest tensor of one chunk: it stays in cache


def vectorized_traces(program: Program, batch: Batch, particles: int) -> tuple[Trace, Trace]:
    """(model trace, guide trace) of K particles at once, in a plate left of all of the program's.

    Runs within the program's ``scope``; needs programs that keep leading dimensions.

    Raises:
        UserError: a latent site of the model is not in the guide.
    """
    guide = under_plate(program.guide, particles, program.nesting)
    guide_trace = poutine.trace(guide).get_trace(**batch)
    model = under_plate(program.model, particles, program.nesting)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(**batch)
    _refuse_marginalised(model_trace, guide_trace)
    return model_trace, guide_trace


def under_plate(fn: Callable, particles: int, nesting: int) -> Callable:
    """The program in an outer plate of K particles, left of its own ``nesting`` dimensions."""

    def particles_first(**columns: Tensor) -> Any:
        with pyro.plate("particles", particles, dim=-1 - nesting):
            return fn(**columns)

    return particles_first


def log_weights(program: Program, batch: Batch, particles: int) -> Tensor:
    """log p(x, z) − log q(z) of K draws from the guide, nats, no scale of subsampling.

    Returns:
        (K, B), one weight a datum, if every site is within the data's plate;
        else (K, 1), the weights of the whole batch.
    """
    model_trace, guide_trace = vectorized_traces(program, batch, particles)
    local = _is_per_datum(model_trace, program.plate)
    kept = (-1 - program.nesting, _plate_dim(model_trace, program.plate) if local else None)
    shape = (particles, len(next(iter(batch.values()))) if local else 1)
    total = next(iter(batch.values())).new_zeros(shape, dtype=torch.get_default_dtype())
    for sign, trace in ((1, model_trace), (-1, guide_trace)):
        for _, site in sample_sites(trace).items():
            log_prob = site["fn"].log_prob(site["value"])
            total = total + sign * _reduce(scale_and_mask(log_prob, mask=site["mask"]), kept, shape)
    return total


def importance_weighted_bound(
    program: Program,
    data: Columns | Streamed | Mapping[str, Tensor],
    num_samples: int = 5000,
    progress: bool = True,
) -> Tensor:
    """L_K = log 1/K Σ_k p(x, z_k)/q(z_k), K draws from the guide (Burda et al. 2016, equation 8).

    Taken in chunks that fit memory; E L_K grows with K towards log p(x).

    Returns:
        (N,) nats, one bound a datum; or (1,), the whole data set's, where a site is global.
    """
    columns = as_columns(data)
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation():
        rows, chunk = _chunks(program, columns, num_samples)
        bar = Bar(f"L_{num_samples}", len(columns), progress)
        bounds: list[Tensor] = []
        with bar:
            for batch in columns.batches(slices(len(columns), rows)):
                bounds.append(_bound(program, batch, num_samples, chunk))
                done = sum(map(len, bounds))
                if bar.due or done >= len(columns):
                    bar.update(done, f"{torch.cat(bounds).mean():.2f} nats")
    return torch.cat(bounds)


def exact_evidence(
    program: Program, data: Columns | Streamed | Mapping[str, Tensor], rows: int = 1
) -> Tensor:
    """log p(x) of each datum, every value of every latent summed over: what bounds are bounds of.

    Args:
        program: its latents discrete, in the data's plate, and few: the table holds all values of
            all of them together.
        data: columns.
        rows: at a time.

    Returns:
        (N,) nats.

    Raises:
        UserError: a latent is not discrete, or a site is outside of the data's plate.
    """
    columns = as_columns(data)
    with program.scope(), program.evaluation():
        found = [_evidence(program, b) for b in columns.batches(slices(len(columns), rows))]
    return torch.cat(found)


def _evidence(program: Program, batch: Batch) -> Tensor:
    trace = poutine.trace(Enumerate(program.nesting)(program.model)).get_trace(**batch)
    if not _is_per_datum(trace, program.plate):
        raise UserError("log p(x) of each datum needs every site within the data's plate")
    joint = torch.zeros(())
    for name, site in sample_sites(trace).items():
        if not site["is_observed"] and site["fn"].has_rsample:
            raise UserError(f"site {name!r} is not discrete: its values cannot be enumerated")
        joint = joint + scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"])
    return joint.reshape(-1, joint.shape[-1]).logsumexp(0)


def khat(program: Program, batch: Batch, num_samples: int = 1000) -> Tensor:
    """Pareto shape of the importance weights (Vehtari et al. 2024): above 0.7 distrust the guide.

    Returns:
        (B,) one k a datum; (1,) for a program with a global latent.
    """
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation():
        weights = log_weights(program, batch, num_samples)
    return torch.from_numpy(psis_khat(weights.cpu().double().numpy()))


def active_units(
    program: Program, data: Columns | Streamed | Mapping[str, Tensor], threshold: float = 0.01
) -> dict[str, int]:
    """For each latent site, the units u with Var_x(E_q[u | x]) > threshold (Burda et al. 2016)."""
    columns = as_columns(data)
    means: dict[str, list[Tensor]] = {}
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation():
        for batch in columns.batches(slices(len(columns), 1000)):
            trace = poutine.trace(program.guide).get_trace(**batch)
            for name, site in sample_sites(trace).items():
                if not site["is_observed"]:
                    means.setdefault(name, []).append(site["fn"].mean)
    return {n: int((torch.cat(m).var(0) > threshold).sum()) for n, m in means.items()}


def _refuse_marginalised(model_trace: Trace, guide_trace: Trace) -> None:
    for name, site in sample_sites(model_trace).items():
        if not site["is_observed"] and name not in guide_trace.nodes:
            raise UserError(
                f"site {name!r} of the model has no draw in the guide (it was marginalised, or "
                "forgotten): weights and draws of the posterior need one for every latent site"
            )


def _bound(program: Program, batch: Batch, num_samples: int, chunk: int) -> Tensor:
    total = None
    for start in range(0, num_samples, chunk):
        weights = log_weights(program, batch, min(chunk, num_samples - start)).logsumexp(0)
        total = weights if total is None else torch.logaddexp(total, weights)
    assert total is not None
    return total - math.log(num_samples)


def _chunks(program: Program, columns: Columns | Streamed, samples: int) -> tuple[int, int]:
    """Rows and particles at a time, such that rows × particles × largest event fits memory."""
    one = columns.rows(slice(0, 1))
    model_trace, _ = program.traces(one)
    rows = min(100, len(columns)) if _is_per_datum(model_trace, program.plate) else len(columns)
    largest = max(site["value"].numel() for _, site in sample_sites(model_trace).items())
    per_particle = rows * max(1, largest)
    return rows, max(1, min(samples, CHUNK_ELEMENTS // per_particle))


def _is_per_datum(trace: Trace, plate: str | None) -> bool:
    """Whether every site, drawn or observed, is one datum's."""
    sites = sample_sites(trace).values()
    return all(any(f.name == plate for f in site["cond_indep_stack"]) for site in sites)


def _plate_dim(trace: Trace, plate: str | None) -> int:
    for _, site in sample_sites(trace).items():
        for frame in site["cond_indep_stack"]:
            if frame.name == plate:
                return frame.dim
    raise UserError(f"no site lies in plate {plate!r}")


def _reduce(log_prob: Tensor, kept: tuple[int, int | None], shape: tuple[int, int]) -> Tensor:
    """Sum a site's (…) log-probability over all dimensions but the kept ones."""
    particle_dim, data_dim = kept
    full = log_prob.reshape((1,) * (-particle_dim - log_prob.dim()) + log_prob.shape)
    gone = [d for d in range(particle_dim, 0) if d not in kept]
    summed = full.sum(gone, keepdim=True) if gone else full
    columns = summed.shape[data_dim] if data_dim is not None else 1
    return summed.reshape(summed.shape[particle_dim], columns).expand(shape)
