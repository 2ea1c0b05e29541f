"""Is the audit right about Pyro's gradient: draw by draw, on average, with a bias and without.

What is seen of an error differs from program to program, so that the table says it with each.
"""

import itertools
import math

import pyro
import torch
from pyro.infer import ELBO, RenyiELBO, Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from inference import audit
from inference.engine.program.program import Program as Audited
from inference.util import rng
from inference.workflow.auditing.moments import gradient_of, of_the_bound
from inference.workflow.auditing.report import Audit
from inference.workflow.auditing.verdicts import exact_gradient
from tests.programs import Made, Program
from tests.support.against_pyro import by_hand
from tests.support.against_pyro.by_hand import SEED, Values
from tests.support.against_pyro.trained import EXACT, assert_close

SAMPLES = 60  # gradients of each estimator in the audit
FEW, LONG = 60, 500  # gradients by hand: to draw from, and to hold the exact one against
PARTICLES = 20_000
PLANTED = (0.05, 0.2, 1.0)  # of the gradient, added to it
SURE = 1.5  # resolutions: a bias of 1 is seen with probability 0.95, one of 1.5 always but 1e-4
CRITICAL = 4.5  # of a distance over the root of its mean square: error 7e-6, one parameter or many
ROUNDING = 1e-9  # of the gradient's norm


class Resampled(ELBO):
    """An estimator of many particles, whose gradients are drawn at random from a few of Pyro's.

    Args:
        elbo: whose bound it follows.
        draws: name → (n, …) gradients of the loss, nats.
        bias: how much of the gradient is added to it.
    """

    unbiased = False

    def __init__(self, elbo: ELBO, draws: Values, bias: float = 0.0) -> None:
        super().__init__(max_plate_nesting=elbo.max_plate_nesting)
        self.elbo, self.draws, self.scale = elbo, draws, 1 + bias
        self.leaves: Values = {}

    def differentiable_loss(self, model, guide, *args, **kwargs) -> Tensor:
        if not self.leaves:
            self.leaves = by_hand.leaves(Made(model, guide, kwargs), kwargs)
        every = torch.ones(len(next(iter(self.draws.values()))))
        drawn = torch.multinomial(every, PARTICLES, replacement=True)
        share = drawn.bincount(minlength=len(every)).to(every) / PARTICLES
        gradients = {name: torch.tensordot(share, g, 1) for name, g in self.draws.items()}
        return self.scale * sum((g * self.leaves[name]).sum() for name, g in gradients.items())

    def _get_trace(self, *programs):
        raise NotImplementedError


class Unbiased(Resampled, TraceEnum_ELBO):
    """One that may serve as a reference, whether or not the program has latents to sum out."""

    unbiased = True


def norm(gradient: Values) -> float:
    return math.sqrt(sum(float(g.square().sum()) for g in gradient.values()))


def plain(program: Program) -> ELBO:
    """The estimator of the program's ELBO."""
    elbo = program.elbo()
    return Trace_ELBO() if isinstance(elbo, RenyiELBO) else elbo


def taken(found: Values) -> Values:
    """Their gradients, which are then zero."""
    filled = {n: torch.zeros_like(v) if v.grad is None else v.grad for n, v in found.items()}
    for leaf in found.values():
        leaf.grad = None
    return filled


def pyros_gradients(program: Program, made: Made, count: int) -> Values:
    """Name → (count, …) Pyro's gradients per datum at the first values."""
    elbo, found, draws = plain(program), by_hand.initialised(program, made), []
    (batch,) = itertools.islice(by_hand.batches(program, made), 1)
    with by_hand.untouched(made):
        for _ in range(count):
            by_hand.backward(elbo, made, batch)
            draws.append(taken(found))
    return {n: torch.stack([d[n] for d in draws]) / by_hand.length(made) for n in found}


def audits_gradients(program: Program, made: Made) -> tuple[Values, Values | None]:
    """The first two as the audit takes them, and its exact one of the bound's own parameters."""
    elbo, inside, draws = plain(program), Audited(made.model, made.guide), []
    inside.to(torch.device("cpu"), torch.float64)
    batch = next(by_hand.batches(program, made))
    with rng.forked(SEED), inside.scope():
        inside.initialise(batch, by_hand.length(made))
        found = by_hand.leaves(made, batch)
        pyro.set_rng_seed(SEED)
        for _ in range(2):
            gradient_of(elbo, inside, batch)
            draws.append(taken(found))
        both = {n: torch.stack([d[n] for d in draws]) for n in found}
        exact, _ = exact_gradient(inside, batch)
        if exact is None:
            return both, None
        counted = of_the_bound(inside, inside.traces(batch)[1])

        def by_name(flat: Tensor) -> Values:
            parameters = inside.parameters.values()
            parts = flat.split([p.numel() for p in parameters])
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.grad = part.view_as(parameter).clone()
            return taken(found)

        belongs = by_name(counted)
        return both, {n: g for n, g in by_name(exact.mean).items() if bool(belongs[n].all())}


def verdicts(program: Program, made: Made, draws: Values) -> Audit:
    """Of Pyro's estimator, and of those that draw from these gradients, with and without a bias."""
    elbo, loss = plain(program), {n: g * by_hand.length(made) for n, g in draws.items()}
    planted = {f"{bias}": Resampled(elbo, loss, bias) for bias in PLANTED}
    return audit(
        *(made.model, made.guide, made.data),
        {"Pyro": elbo, "resampled": Unbiased(elbo, loss), **planted},
        samples=SAMPLES,
        batch_size=program.batch_size,
        seed=SEED,
        precision="float64",
        progress=False,
    )


def audit_reference(program: Program) -> str:
    """What is seen: errors of the exact gradient, and the least bias that was planted and found.

    The audit's gradients are Pyro's, draw by draw; its exact one is the mean of many; it raises no
    alarm for Pyro's estimator, and one for every planted bias that its resolution reaches.
    """
    mine, exact = audits_gradients(program, by_hand.fresh(program))
    draws = pyros_gradients(program, by_hand.fresh(program), FEW if exact is None else LONG)
    assert_close(mine, {n: g[:2] for n, g in draws.items()}, "gradient of", EXACT)
    mean = {n: g.mean(0) for n, g in draws.items()}
    said, length = "", norm(mean)
    if exact is not None:
        error = math.sqrt(sum(float(draws[n].var(0).sum()) / len(draws[n]) for n in exact))
        gap = norm({n: exact[n] - mean[n] for n in exact})
        allowed = CRITICAL * error + ROUNDING * length
        assert gap <= allowed, f"the exact gradient is {gap:.3g} from a mean, {allowed:.3g} allowed"
        said = f"exact within {allowed / norm(exact):.1g} of its norm; "
        draws = {n: g - mean[n] + exact.get(n, mean[n]) for n, g in draws.items()}
    return said + found_in(verdicts(program, by_hand.fresh(program), draws))


def found_in(result: Audit) -> str:
    """The least planted bias that was found."""
    rows = {row.name: row for row in result.rows}
    for name in ("Pyro", "resampled"):
        assert not rows[name].biased, f"{name} is called biased, against {rows[name].against}"
    seen = []
    for bias in PLANTED:
        row = rows[f"{bias}"]
        assert row.against, f"the bias of {bias:.0%} is compared with nothing"
        if SURE * row.resolution <= bias:
            assert row.biased, f"a bias of {bias:.0%} is not seen, against {row.against}"
            seen.append(bias)
    return f"sees a bias of {min(seen):.0%}" if seen else "sees no bias of 100%"
