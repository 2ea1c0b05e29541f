"""``audit``: for this program, which estimator is unbiased, how noisy is it, what does it cost?"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from pyro.infer import ELBO
from torch import nn

from inference.data.columns import Batch, Columns, Data, Streamed, as_columns
from inference.engine.optimizers import OptimizerFactory
from inference.engine.program.checks.arguments import (
    refuse_callables,
    refuse_counts,
    refuse_estimator,
    refuse_signature,
)
from inference.engine.program.nonfinite import explained
from inference.engine.program.objective import backward
from inference.engine.program.program import Program, accepted_columns
from inference.engine.training.plan import DTYPES
from inference.estimators.programs import StochasticFunction
from inference.util import rng
from inference.util.errors import UserError
from inference.util.progress import Bar
from inference.workflow.auditing.moments import (
    Moments,
    count_evaluations,
    directions,
    gradient_of,
    of_the_bound,
    placed,
    settle,
    timed_gradient,
)
from inference.workflow.auditing.rare import with_rare_draws
from inference.workflow.auditing.report import Audit, Verdict
from inference.workflow.auditing.verdicts import (
    Measured,
    bound_of,
    exact_gradient,
    is_unbiased,
    of_guide_alone,
    verdicts,
)

ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


def audit(
    model: StochasticFunction,
    guide: StochasticFunction,
    data: Data,
    estimators: Sequence[ELBO] | Mapping[str, ELBO],
    *,
    samples: int = 500,
    batch_size: int | None = None,
    at: int | Sequence[int] = (0,),
    train_with: ELBO | None = None,
    optimizer: OptimizerFactory = ADAM,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "float32",
    skip_refused: bool = False,
    progress: bool = True,
) -> Audit:
    """Measure bias, variance and cost of gradient estimators on a program.

    The batch is fixed; the noise is that of the guide's draws.  The reference is the exact
    gradient where every latent can be summed over (``Exact``), else the mean of the most precise
    of the other estimators that are unbiased by construction; each bound has its own.  Whether a
    bias was seen, whether none can be (``says``), and with which error and power, is defined in
    ``inference.workflow.auditing.bias``.  Baselines and temperatures first adapt at the fixed
    parameters, then stay fixed.

    >>> from inference.estimators import DisARM, GumbelSoftmax
    >>> from ppl_models.toys import SquaredDistance, SquaredDistanceGuide
    >>> estimators, guide = [DisARM(), GumbelSoftmax(temperature=10.0)], SquaredDistanceGuide(0.3)
    >>> found = audit(SquaredDistance(), guide, {"x": [0.0]}, estimators, samples=100)
    >>> {row.name: row.biased for row in found.rows}
    {'DisARM': False, 'GumbelSoftmax': True}

    Args:
        model, guide: the program; trained in place if ``at`` has steps beyond 0.
        data: columns.
        estimators: ours or Pyro's, a list, or a dict by name.
        samples: gradients of each estimator; and as many, at most 300, with a rare draw in each, of
            which only the largest deviation is used.
        batch_size: rows in the batch (None: all).
        at: after how many optimiser steps to measure.
        train_with: the estimator used in these steps; the first unless given.
        optimizer: parameters → optimiser of these steps.
        seed: of all noise.
        device: "cpu", "cuda", …
        precision: "float32" or "float64".
        skip_refused: leave out estimators that refuse the program, and say why in ``refused``.
        progress: show a bar.

    Raises:
        UserError: an estimator refuses the program, or nothing is to be audited.
    """
    named, moments = _checked(estimators, samples, batch_size, at)
    refuse_callables(model, guide)
    columns = as_columns(data)
    columns = columns.select(accepted_columns(model, columns.names))
    refuse_signature(guide, columns.names)
    if batch_size is not None and batch_size > len(columns):
        raise UserError(f"batch_size is {batch_size}, but the data have {len(columns)} rows")
    if isinstance(columns, Columns):
        columns.refuse_nonfinite()
    program = Program(model, guide)
    program.to(torch.device(device), DTYPES[precision])
    columns = columns.to(program.device, program.dtype)
    rows: list[Verdict] = []
    refused, inexact = dict[str, str](), ""
    with rng.forked(seed), program.scope():
        batches = _batches(columns, batch_size, seed)
        audited = batch = next(batches)
        with explained(program, audited):
            program.initialise(audited, len(columns))
        if skip_refused:
            named, refused = _accepted(named, program, audited)
        trainer = placed(train_with or next(iter(named.values())), program)
        own = list(trainer.parameters()) if isinstance(trainer, nn.Module) else []
        trained = [*program.parameters.values(), *own]
        made = functools.cache(lambda: optimizer(trained))  # torch's first one takes seconds
        for step in range(max(moments) + 1):
            if step in moments:
                bar = Bar(f"audit after {step} steps", samples, progress)
                measured = _measure(program, audited, named, samples, bar)
                exact, inexact = exact_gradient(program, audited)
                rows += verdicts(program, measured, exact, step, len(named) * len(moments))
            if step < max(moments):
                made().zero_grad()
                backward(trainer, program, batch)
                made().step()
                batch = next(batches)
    return Audit(rows, samples, refused, inexact)


def _checked(
    estimators: Sequence[ELBO] | Mapping[str, ELBO],
    samples: int,
    batch_size: int | None,
    at: int | Sequence[int],
) -> tuple[Mapping[str, ELBO], set[int]]:
    """The estimators by name, and the steps, checked."""
    moments = {at} if isinstance(at, int) else set(at)
    if not moments or min(moments) < 0:
        raise UserError(f"at is {at}: say after how many optimiser steps to audit, as in at=(0,)")
    if samples < 2:
        raise UserError(f"samples is {samples}: a variance needs two or more")
    refuse_counts({"batch_size": batch_size})
    if isinstance(estimators, str | type | ELBO):
        raise UserError(f"estimators is {estimators!r}: give a list, as in [ScoreFunction()]")
    given = estimators.values() if isinstance(estimators, Mapping) else estimators
    for estimator in given:
        refuse_estimator(estimator)
    if not given:
        raise UserError("give one or more estimators to audit")
    if isinstance(estimators, Mapping):
        return estimators, moments
    named = {estimator_label(e): e for e in estimators}
    if len(named) < len(estimators):
        names = [estimator_label(e) for e in estimators]
        twice = next(n for n in names if names.count(n) > 1)
        raise UserError(f"two estimators are called {twice}: give a dict, name → estimator")
    return named, moments


def estimator_label(estimator: ELBO) -> str:
    """A short name: class, baseline and particles."""
    inner = getattr(estimator, "elbo", estimator)
    parts = [type(b).__name__ for b in (getattr(estimator, "baseline", None),) if b is not None]
    parts += [str(inner.num_particles)] if inner.num_particles > 1 else []
    return type(inner).__name__ + (f"({', '.join(parts)})" if parts else "")


def _accepted(
    estimators: Mapping[str, ELBO], program: Program, batch: Batch
) -> tuple[dict[str, ELBO], dict[str, str]]:
    """(estimators that can give a gradient of the program, name → error of the others).

    Raises:
        UserError: all refuse the program.
    """
    accepted, refused = {}, {}
    for name, estimator in estimators.items():
        try:
            gradient_of(placed(estimator, program), program, batch)
            accepted[name] = estimator
        except UserError as refusal:
            refused[name] = str(refusal)
    if not accepted:
        raise UserError(f"no estimator takes the program; {name} says: {refused[name]}")
    return accepted, refused


def _measure(
    program: Program, batch: Batch, estimators: Mapping[str, ELBO], samples: int, bar: Bar
) -> dict[str, Measured]:
    """Let the estimators' state adapt, then sample their gradients."""
    with torch.no_grad(), program.untouched():
        traces = program.traces(batch)
    guide_alone, counted = of_guide_alone(*traces), of_the_bound(program, traces[1])
    across = directions(sum(p.numel() for p in program.parameters.values()), program)
    measured = {}
    for name, estimator in estimators.items():
        settled = settle(placed(estimator, program), program, batch)
        evaluations = count_evaluations(settled, program, batch)
        unbiased = is_unbiased(estimator, program.undrawn, guide_alone)
        bound = bound_of(estimator, program.undrawn)
        measured[name] = Measured(settled, bound, unbiased, Moments(across, counted), evaluations)
    with bar:
        for i in range(samples):
            for each in measured.values():  # in turns: a slow machine slows all
                each.moments.add(*timed_gradient(each.estimator, program, batch))
            if bar.due:
                bar.update(i + 1, "")
        bar.update(samples, "")
    with rng.forked():
        for each in measured.values():
            gradient_once = functools.partial(gradient_of, each.estimator, program, batch)
            for gradient in with_rare_draws(gradient_once, samples):
                each.moments.add_rare(gradient)
    return measured


def _batches(columns: Columns | Streamed, batch_size: int | None, seed: int) -> Iterator[Batch]:
    """Epoch after epoch, as ``fit`` draws them."""
    for epoch in itertools.count():
        yield from columns.batches(columns.order(batch_size, seed, epoch))
