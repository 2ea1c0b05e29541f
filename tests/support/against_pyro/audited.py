"""Is the audit's reference Pyro's gradient: against a long mean, with a bias planted and none."""

import itertools

import torch
from pyro import poutine
from pyro.infer import ELBO, RenyiELBO, Trace_ELBO
from torch import Tensor

from inference import audit
from tests.programs import Program
from tests.support.against_pyro import by_hand
from tests.support.against_pyro.by_hand import SEED, Values

SAMPLES, LONG = 60, 200
TILT = 1.5
TAIL = 20.0  # chi-squared of one degree is larger with probability 8e-6


class Planted(ELBO):
    """An estimator of ours to plant: what ``change`` makes of another's gradients."""

    unbiased = False

    def __init__(self, elbo: ELBO, change) -> None:
        super().__init__(max_plate_nesting=elbo.max_plate_nesting)
        self.elbo, self.change = elbo, change

    def loss(self, model, guide, *args, **kwargs):
        return self.elbo.loss(model, guide, *args, **kwargs)

    def loss_and_grads(self, model, guide, *args, **kwargs):
        with poutine.trace(param_only=True) as capture:
            loss = self.elbo.loss_and_grads(model, guide, *args, **kwargs)
        for name, leaf in by_hand.unconstrained(capture.trace).items():
            found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            leaf.grad = self.change(name, found)
        return loss

    def _get_trace(self, *programs):
        raise NotImplementedError


def long_mean(program: Program, elbo: ELBO) -> tuple[Values, Values]:
    """Name → mean of Pyro's gradient per datum at the first values, and → its squared error."""
    made = by_hand.fresh(program)
    found = by_hand.initialised(program, made)
    (batch,) = itertools.islice(by_hand.batches(program, made), 1)
    draws: dict[str, list[Tensor]] = {name: [] for name in found}
    with by_hand.untouched(made):
        for _ in range(LONG):
            by_hand.backward(elbo, made, batch)
            for name, leaf in found.items():
                gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                draws[name].append(gradient / by_hand.length(made))
                leaf.grad = None
    stacked = {name: torch.stack(drawn) for name, drawn in draws.items()}
    means = {name: drawn.mean(0) for name, drawn in stacked.items()}
    return means, {name: drawn.var(0) / LONG for name, drawn in stacked.items()}


def audit_reference(program: Program) -> None:
    """No alarm for Pyro's estimator, one for its gradient tilted; the reference is the long mean.

    The distance of the long mean from the reference is compared with what the noise of both allows.
    """
    plain = Trace_ELBO if isinstance(program.elbo(), RenyiELBO) else program.elbo
    mean, error = long_mean(program, plain())
    made = by_hand.fresh(program)
    count = by_hand.length(made)
    result = audit(
        made.model,
        made.guide,
        made.data,
        {
            "Pyro": plain(),
            "again": plain(),
            "tilted": Planted(plain(), lambda name, gradient: TILT * gradient),
            "long mean": Planted(plain(), lambda name, gradient: count * mean[name]),
        },
        samples=SAMPLES,
        batch_size=program.batch_size,
        seed=SEED,
        precision="float64",
        progress=False,
    )
    rows = {row.name: row for row in result.rows}
    for name in ("Pyro", "again"):
        assert not rows[name].biased, f"{name} is called biased, against {result.reference}"
    pyros, ours, tilted = rows["Pyro"], rows["long mean"], rows["tilted"]
    noise = sum(float(e.sum()) for e in error.values())
    norm = pyros.signal_to_noise * pyros.variance**0.5
    if pyros.variance == 0 or norm != norm:
        norm = sum(float(m.square().sum()) for m in mean.values()) ** 0.5
    allowed = TAIL * (noise + (ours.resolution * norm) ** 2) + 1e-18
    gap = (ours.bias * norm) ** 2
    far = f"{gap**0.5:.3g} from the long mean, {allowed**0.5:.3g} allowed"
    assert gap <= allowed, f"the reference is {far}"
    if 1.5 * tilted.critical * tilted.resolution < (TILT - 1):
        assert tilted.biased, (
            f"a gradient times {TILT} is called unbiased, against {result.reference}"
        )
