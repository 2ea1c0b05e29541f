"""Evaluation of a guide: importance-weighted bounds, k-hat of its weights, active units."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from inference.data.columns import Batch, Columns, Data, Streamed, as_columns, row_count, slices
from inference.engine.program.program import Program
from inference.estimators.exact import all_at_once, known_difference, one_by_one
from inference.estimators.programs import ModelAndGuide
from inference.results.arviz_versions import psis_khat
from inference.results.draws.joint import Draws
from inference.results.draws.rows import own_plate, plate_of_any_rows, plate_of_rows
from inference.results.draws.sampler import Sampler, isolated
from inference.results.draws.sites import Site, Sites, batch_rank, kind_of, log_prob_of, recorded
from inference.util.errors import UserError
from inference.util.progress import Bar
from inference.util.sites import sample_sites

ROWS = 100  # rows at a time, where rows are independent
HALF = 50  # draws of each of the two means whose covariance is a variance
MIN_SPREAD = 1e-4  # nats; weights closer to each other than this are equal


def weights_of(draws: Draws, plate: str | None) -> Tensor:
    """log p(x, z) − log q(z) of K draws, nats, without scales of plates or ``poutine.scale``.

    Latents that the model enumerates are summed out.

    Args:
        draws: the K draws.
        plate: over the rows, if each row has a weight of its own.

    Returns:
        (K, rows), or (K, 1) without a plate.

    Raises:
        UserError: a latent of the model is neither drawn by the guide nor enumerated.
    """
    _refuse_undrawn(draws)
    total: Tensor | None = None
    signed: tuple[tuple[float, Sites], ...]
    signed = ((1.0, draws.model), (1.0, draws.sums), (-1.0, draws.guide))
    for sign, sites in signed:
        for site in sites.values():
            if site.log_prob is not None and site.kind != "deterministic":
                part = sign * _reduced(site, site.log_prob, plate)
                total = part if total is None else total + part
    assert total is not None
    return total.expand(draws.count, total.shape[1])


def _reduced(site: Site, log_prob: Tensor, plate: str | None) -> Tensor:
    """(K or 1, rows or 1) the sum over all dimensions but those of draws and of the plate."""
    own = [dim for dim, (name, _) in (site.plates or {}).items() if name == plate]
    if own:
        log_prob = log_prob.movedim(own[0], 1)
        return log_prob.reshape(*log_prob.shape[:2], -1).sum(2)
    return log_prob.reshape(len(log_prob), -1).sum(1, keepdim=True)


def _refuse_undrawn(draws: Draws) -> None:
    for name, site in draws.model.items():
        if site.kind == "latent" and name not in draws.guide:
            raise UserError(
                f"site {name!r} of the model is neither observed nor drawn by the guide: "
                "importance weights need its column among the data, or a draw of it in the guide"
            )


def log_weights(program: Program, batch: Batch, particles: int) -> Tensor:
    """``weights_of`` K new draws: (K, B), or (K, 1) if a site is not in the rows' plate."""
    with isolated(program):
        sampler = Sampler(program)
        plate = own_plate(sampler, batch)
        return torch.cat([weights_of(d, plate) for d in sampler.draw(batch, particles)])


def importance_weighted_bound(
    program: Program, data: Data, num_samples: int = 5000, progress: bool = True
) -> Tensor:
    """L_K = log 1/K Σ_k p(x, z_k)/q(z_k), K draws from the guide (Burda et al. 2016, equation 8).

    Computed in chunks that fit memory; E L_K grows with K towards log p(x).  Draws are vectorised
    where that is checked to equal one run a draw.  Factors of ``poutine.scale`` are left out.

    Returns:
        (N,) nats, one bound a datum; or (1,), of the whole data set, where a site is not in the
        rows' plate, or a row's log-probability depends on other rows.

    Raises:
        UserError: a latent of the model is neither drawn by the guide nor enumerated.
    """
    columns = as_columns(data)
    with isolated(program):
        sampler = Sampler(program)
        rows, plate = _rows_at_a_time(sampler, columns)
        bar = Bar(f"L_{num_samples}", len(columns), progress)
        bounds: list[Tensor] = []
        with bar:
            for batch in columns.batches(slices(len(columns), rows)):
                bounds.append(_bound(sampler, batch, num_samples, plate))
                done = sum(map(len, bounds)) if plate else len(columns)
                if bar.due or done >= len(columns):
                    bar.update(done, f"{torch.cat(bounds).mean():.2f} nats")
    return torch.cat(bounds)


def _rows_at_a_time(sampler: Sampler, columns: Columns | Streamed) -> tuple[int, str | None]:
    """(rows at a time, the plate over them if each row has its own bound)."""
    if len(columns) > ROWS:
        plate = plate_of_any_rows(sampler, columns.rows(slice(0, ROWS)))
        if plate is not None:
            return ROWS, plate
    return len(columns), own_plate(sampler, columns.rows(None))


def _bound(sampler: Sampler, batch: Batch, num_samples: int, plate: str | None) -> Tensor:
    total: Tensor | None = None
    for draws in sampler.draw(batch, num_samples):
        part = weights_of(draws, plate).logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return total - math.log(num_samples)


def exact_evidence(program: Program, data: Data, rows: int = 1) -> Tensor:
    """log p(x) of each datum, by summing over every value of every latent.

    All values are enumerated in one run where that is checked to equal runs of one assignment.

    Args:
        program: its latents are discrete, in the data's plate, and few: the joint table of all
            their values must fit memory.
        data: columns.
        rows: rows at a time, where values are enumerated in one run.

    Returns:
        (N,) nats.

    Raises:
        UserError: a latent is not discrete, a site is outside of the data's plate, or there are too
            many assignments of values.
    """
    columns = as_columns(data)
    with isolated(program):
        found = [_evidence(program, b) for b in columns.batches(slices(len(columns), rows))]
    return torch.cat(found)


def _evidence(program: Program, batch: Batch) -> Tensor:
    """(B,) log p of these rows; row by row where assignments are run one by one."""
    latents = poutine.block(program.model, hide_fn=_is_observed)
    programs = ModelAndGuide(program.model, latents, (), batch)
    single = programs.run()
    rank = batch_rank(single)
    draws = Draws(1, recorded(single[1], rank), recorded(single[0], rank))
    plate = plate_of_rows(draws, row_count(batch), program.plate)
    if plate is None:
        raise UserError("log p(x) of each datum needs every site within the data's plate")
    for name, site in sample_sites(single[1]).items():
        if site["fn"].has_rsample:
            raise UserError(f"site {name!r} is not discrete: its values cannot be enumerated")
    nodes = 1  # no quadrature
    reason = known_difference(programs, rank, nodes)
    if reason is None:
        joint = _joint(all_at_once(programs, rank, nodes)[0])
        return joint.reshape(-1, joint.shape[-1]).logsumexp(0)
    if row_count(batch) > 1:
        parts = [{n: c[i : i + 1] for n, c in batch.items()} for i in range(row_count(batch))]
        return torch.cat([_evidence(program, part) for part in parts])
    pairs = one_by_one(programs, nodes, reason)
    return torch.stack([_joint(model_trace).sum() for model_trace, _ in pairs]).logsumexp(0)[None]


def _joint(trace: poutine.Trace) -> Tensor:
    """(… B) the sum over all sites, without the scale of subsampling."""
    return sum((log_prob_of(site) for site in sample_sites(trace).values()), torch.zeros(()))


def khat(program: Program, batch: Batch, num_samples: int = 1000) -> Tensor:
    """Pareto k of the importance weights (Vehtari et al. 2024); see ``khat_threshold``.

    Returns:
        (B,) one k a datum; (1,) where a site is not in the rows' plate, or rows are dependent.
    """
    return khat_of(log_weights(program, batch, num_samples))


def khat_threshold(num_samples: int) -> float:
    """min(1 − 1 / log₁₀ S, 0.7): above it S weights cannot be relied on (Vehtari et al. 2024, 3.2).

    >>> [round(khat_threshold(count), 2) for count in (100, 1000, 10_000)]
    [0.5, 0.67, 0.7]
    """
    return min(1 - 1 / math.log10(max(num_samples, 2)), 0.7)


def khat_of(weights: Tensor) -> Tensor:
    """(data,) Pareto k of log-weights (K, data); 0 where all are equal."""
    weights = weights.cpu().double()
    equal = weights.amax(0) - weights.amin(0) < MIN_SPREAD
    found = torch.zeros(weights.shape[1], dtype=torch.float64)
    if not equal.all():
        found[~equal] = torch.from_numpy(psis_khat(weights[:, ~equal].numpy())).double()
    return found


def active_units(program: Program, data: Data, threshold: float = 0.01) -> dict[str, int]:
    """For each latent site, the units u with Var_x(E_q[u | x]) > threshold (Burda et al. 2016).

    Where E[u | x, earlier draws] depends on the guide's earlier draws, the variance is estimated by
    the covariance over x of two independent means over 50 runs each.

    Raises:
        UserError: a latent is not in the rows' plate, or its distribution has no closed-form mean.
    """
    columns = as_columns(data)
    with isolated(program):
        sampler = Sampler(program)
        parts = [
            _two_means(sampler, batch) for batch in columns.batches(slices(len(columns), 1000))
        ]
    found = {}
    for name in parts[0]:
        first, second = (torch.cat([part[name][i] for part in parts]) for i in (0, 1))
        covariance = ((first - first.mean(0)) * (second - second.mean(0))).sum(0)
        found[name] = int((covariance / max(1, len(first) - 1) > threshold).sum())
    return found


def _two_means(sampler: Sampler, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """Latent → two unbiased estimates of E_q[u | x], (B, …) each, of independent draws."""
    first, second = _means(sampler, batch), _means(sampler, batch)
    count = 1
    if any(not torch.equal(first[n], second[n]) for n in first):
        count = HALF
        for total in (first, second):
            for _ in range(HALF - 1):
                for name, mean in _means(sampler, batch).items():
                    total[name] = total[name] + mean
    return {n: (first[n] / count, second[n] / count) for n in first}


def _means(sampler: Sampler, batch: Batch) -> dict[str, Tensor]:
    """Latent → (B, …) its mean given the earlier draws."""
    trace = poutine.trace(sampler.guide).get_trace(**batch)
    means = {}
    for name, site in sample_sites(trace).items():
        if kind_of(site) != "latent":
            continue
        frames = {f.name: f for f in site["cond_indep_stack"] if f.vectorized}
        own = [f for f in frames.values() if f.size == row_count(batch)]
        plate = frames.get(sampler.program.plate or "", own[0] if own else None)
        if plate is None or plate.size != row_count(batch):
            raise UserError(f"site {name!r} is not one of each row: it has no active units")
        try:
            mean = site["fn"].mean
        except NotImplementedError:
            kind = type(site["fn"]).__name__
            raise UserError(
                f"site {name!r} is a {kind}, whose mean has no closed form: active units need it"
            ) from None
        means[name] = mean.movedim(plate.dim - site["fn"].event_dim, 0)
    return means


def _is_observed(site: Any) -> bool:
    return bool(site["is_observed"])
