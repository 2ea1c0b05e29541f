"""Mixed precision rounds networks, and nothing of a distribution."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.distribution import COERCIONS
from pyro.nn import PyroModule
from torch import Tensor, nn

from guides.empty import Empty
from inference import fit
from inference.engine.gradient.mixed import mixed_precision
from inference.estimators import Pathwise

X = torch.linspace(-2, 2, 48).reshape(16, 3)


G = torch.Generator().manual_seed(0)
LOC, FACTOR = (torch.randn(16, 3, generator=G).bfloat16() for _ in range(2))
SCALE = FACTOR.exp()  # what a network says under autocast is in bfloat16

MADE = {  # of a function of parameters: as they are, or in float32
    "normal": lambda c: dist.Normal(c(LOC), c(SCALE)),
    "class": lambda c: dist.Categorical(logits=c(64 * LOC)),
    "independent": lambda c: dist.Normal(c(LOC), torch.ones(3)).to_event(1),
    "covariance": lambda c: dist.LowRankMultivariateNormal(
        c(LOC), c(FACTOR)[..., None], torch.ones(16, 3).float()
    ),
    "transformed": lambda c: dist.TransformedDistribution(
        dist.Normal(c(LOC), 1.0), [dist.transforms.AffineTransform(c(FACTOR), c(SCALE))]
    ),
}


def drawn(made):
    """(value, log p) of one site."""
    pyro.set_rng_seed(1)
    trace = poutine.trace(lambda: pyro.sample("z", made())).get_trace()
    trace.compute_log_prob()
    return trace.nodes["z"]["value"], trace.nodes["z"]["log_prob"]


@pytest.mark.parametrize("name", MADE)
def test_a_distribution_of_halves_is_that_of_their_values(name):
    """Draws and densities, bit for bit, as of the same parameters in float32 without autocast."""
    with mixed_precision("cpu"):
        found = drawn(lambda: MADE[name](lambda parameter: parameter))
    for value, alone in zip(found, drawn(lambda: MADE[name](Tensor.float)), strict=True):
        assert value.dtype == alone.dtype
        assert torch.equal(value, alone)


class Classes(PyroModule):
    """y ~ Categorical(softmax(W x + b))."""

    def __init__(self):
        super().__init__()
        self.say = nn.Linear(3, 7)

    def forward(self, x, y):
        with pyro.plate("data", 16, subsample=x):
            pyro.sample("y", dist.Categorical(logits=self.say(x)), obs=y)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_logits_that_bfloat16_holds_have_the_bound_and_the_gradient_of_float32(compiled):
    """Logits of 30 to 33: log p in bfloat16 is off by .1, its gradient's sum over classes not 0."""
    columns = {"x": torch.linspace(-2, 2, 48).reshape(16, 3), "y": torch.arange(16) % 7}
    bounds, moved = [], []
    for precision in ("float32", "bf16-mixed"):
        model = Classes()
        before = 30 + torch.arange(7.0) / 2
        with torch.no_grad():
            model.say.weight.zero_()
            model.say.bias.copy_(before)
        sgd = partial(torch.optim.SGD, lr=1.0)
        options = {"steps": 1, "progress": False, "compile": compiled, "precision": precision}
        run = fit(model, Empty(), columns, Pathwise(), sgd, **options)
        bounds.append(float(run.trace["svi"]["elbo"][0, 0]))
        moved.append(run.params["model.say.bias"].detach() - before.float())
    assert bounds[1] == pytest.approx(bounds[0], rel=1e-6)
    assert moved[0].abs().max() > 0.1
    torch.testing.assert_close(moved[1], moved[0], rtol=0, atol=2**-9)  # rounding of gradients
    assert moved[1].sum().abs() < 2**-9


def test_the_context_leaves_nothing_behind():
    before = list(COERCIONS)
    with pytest.raises(ZeroDivisionError), mixed_precision("cpu"):
        dist.Normal(LOC, 1.0).log_prob(1 / 0)
    assert before == COERCIONS
