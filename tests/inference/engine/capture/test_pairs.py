"""Every estimator on every program that it accepts: captured, it is the estimator itself.

Same seed, float64, values and gradients equal to 1e-10; by the graph's operations here (some
programs in the slow tests), compiled in the slow tests for every estimator and every program twice.
"""

import copy
import random
from collections import Counter

import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from inference.engine.capture.backends import inductor, interpreted
from inference.engine.capture.graph import capture
from inference.engine.program.objective import backward
from inference.engine.program.program import Program
from inference.estimators import Exact, GumbelSoftmax, ReweightedWakeSleep
from tests.support.catalogue import CASES
from tests.support.estimators import ANY, BOUNDS, ELBOS, NORMAL, RELAXABLE, WEIGHED, pairs

ONLY_DISCRETE = {"Bernoulli", "Categorical", "OneHotCategorical"}
ALONE = ELBOS | {
    "Exact": (lambda name: Exact(), ONLY_DISCRETE),
    "GumbelSoftmax": (lambda name: GumbelSoftmax(), RELAXABLE),
    "Trace_ELBO": (lambda name: Trace_ELBO(num_particles=2), ANY),
    "TraceGraph_ELBO": (lambda name: TraceGraph_ELBO(), ANY),
    "RenyiELBO": (lambda name: RenyiELBO(alpha=0, num_particles=2), NORMAL),
}
TOGETHER = BOUNDS | {"ReweightedWakeSleep": (lambda name: ReweightedWakeSleep(3), ANY)}
IN_ORDER = {"TraceMeanField_ELBO": (lambda name: TraceMeanField_ELBO(), NORMAL)}
ALL = ALONE | TOGETHER | IN_ORDER
PAIRS = [*pairs(ALONE), *pairs(TOGETHER, WEIGHED), *pairs(IN_ORDER, {"normal", "one_normal"})]


def cover(pairs, times=2):
    """Pairs in which each program and each estimator is so often: a compilation takes a minute."""
    count = Counter()
    for pair in pairs:
        if min(count[value] for value in pair.values) < times:
            count.update(pair.values)
            yield pair


class Measured:
    """A pair's loss and gradients, as a function of nothing."""

    def __init__(self, name, estimator):
        self.estimator = estimator
        model, guide, self.parameters = CASES[name].programs(2)
        if isinstance(estimator, torch.nn.Module):
            self.parameters = self.parameters | dict(estimator.named_parameters())
        self.program = Program(model, guide)
        self.program.parameters, self.program.plate_size = self.parameters, 1

    def __call__(self):
        for leaf in self.parameters.values():
            leaf.grad = None
        loss = backward(self.estimator, self.program, {})
        return [loss, *(leaf.grad for leaf in self.parameters.values())]

    def state(self):
        is_module = isinstance(self.estimator, torch.nn.Module)
        return copy.deepcopy(self.estimator.state_dict()) if is_module else {}

    def restore(self, state):
        if state:
            self.estimator.load_state_dict(state)


def flat(outputs, state):
    averages = [
        value for extra in state.values() if isinstance(extra, dict) for value in extra.values()
    ]
    return [*(None if o is None else o.clone() for o in outputs), *averages]


def check(name, estimator, backend):
    measured = Measured(name, ALL[estimator][0](name))
    torch.manual_seed(1)
    measured()  # a baseline is made at its first signal
    in_place = isinstance(measured.estimator, TraceGraph_ELBO)  # changes what could be shared
    graph = capture(measured, [], share=not in_place)
    run = backend(graph, [])
    for seed in (2, 3):
        before = measured.state()
        torch.manual_seed(seed)
        wanted = flat(measured(), measured.state())
        measured.restore(before)
        torch.manual_seed(seed)
        found = flat(run([], graph.draw_noise()), measured.state())
        for f, w in zip(found, wanted, strict=True):
            assert (f is None) == (w is None)
            if w is not None:
                torch.testing.assert_close(f, w, rtol=1e-10, atol=1e-10)


SLOW = {
    "attention",
    "markov",
    "crossed",
    "hierarchy",
    "mixture",
    "masked",
    "scaled",
    "batch_of_one",
}
SPREAD = [
    pytest.param(*pair.values, id=pair.id, marks=[pytest.mark.slow] * (pair.values[0] in SLOW))
    for pair in PAIRS
]


@pytest.mark.parametrize(("name", "estimator"), SPREAD)
def test_captured_is_uncaptured(name, estimator):
    check(name, estimator, interpreted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "estimator"), list(cover(random.Random(0).sample(PAIRS, len(PAIRS))))
)
def test_compiled_is_uncaptured(name, estimator):
    check(name, estimator, inductor)
