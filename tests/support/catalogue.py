"""Small programs of every shape, as functions of their parameters ``p``.

Each runs in a plate of replicates to its left: parameters with a leading dimension R make R
independent runs at once, whose gradients come apart.  ``p[name][..., i]`` has shape (R, 1 …).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from inference.estimators.base import emit_param

X = torch.tensor([0.7, -0.4, 1.1], dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """A program, its parameters, and which kinds of draw its guide makes."""

    model: Callable[[dict[str, Tensor]], None]
    guide: Callable[[dict[str, Tensor]], None]
    params: dict[str, list[float]]
    nesting: int = 1
    kinds: frozenset[str] = field(default_factory=frozenset)
    local: bool = True  # every latent in the data's plate, and nothing else after it
    units: tuple[tuple[str, str], ...] = ()  # if not: what is weighed together, in which plates
    scale: float = 1.0  # N/B of the units

    def programs(self, replicates: int):
        """(model, guide, leaves): leaves are (R, 1 …, length)."""
        shape = (replicates, *(1,) * self.nesting)
        leaves = {
            name: torch.tensor(value, dtype=torch.float64)
            .expand(*shape, len(value))
            .clone()
            .requires_grad_()
            for name, value in self.params.items()
        }

        def inside(program):
            def run():
                for name, leaf in leaves.items():
                    emit_param(
                        leaf, name=f"parameter {name}"
                    )  # some of Pyro's look for parameters in the trace
                with pyro.plate("replicates", replicates, dim=-1 - self.nesting):
                    program(leaves)

            return run

        return inside(self.model), inside(self.guide), leaves


CASES: dict[str, Case] = {}


def case(guide, params, *kinds, nesting=1, local=True, units=(), scale=1.0):
    """Register the decorated model with its guide under its name."""

    def register(model):
        described = (params, nesting, frozenset(kinds), local, units, scale)
        CASES[model.__name__] = Case(model, guide, *described)
        return model

    return register


def data(size=3, full=None):
    return pyro.plate("data", full or size, subsample_size=None, subsample=torch.arange(size))


def bits(w, offset=0.0):
    return dist.Bernoulli(logits=w[..., 0] * X + w[..., 1] + offset)


def bernoulli_guide(p):
    with data():
        pyro.sample("b", bits(p["w"]))


@case(bernoulli_guide, {"t": [0.4, 0.8], "w": [0.5, -0.3]}, "Bernoulli")
def bernoulli(p):
    with data():
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * b, 0.7), obs=X)


def categorical_guide(p):
    with data():
        pyro.sample("k", dist.Categorical(logits=X[:, None] * p["w"]))


@case(categorical_guide, {"t": [-0.5, 0.3, 1.2], "w": [0.5, -0.3, 0.2]}, "Categorical")
def categorical(p):
    with data():
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        loc = (torch.nn.functional.one_hot(k, 3) * p["t"]).sum(-1)
        pyro.sample("x", dist.Normal(loc, 0.8), obs=X)


def one_hot_guide(p):
    with data():
        pyro.sample("k", dist.OneHotCategorical(logits=X[:, None] * p["w"]))


@case(one_hot_guide, {"t": [-0.5, 0.3, 1.2], "w": [0.5, -0.3, 0.2]}, "OneHotCategorical")
def one_hot(p):
    with data():
        k = pyro.sample("k", dist.OneHotCategorical(torch.tensor([0.2, 0.3, 0.5])))
        pyro.sample("x", dist.Normal((k * p["t"]).sum(-1), 0.8), obs=X)


def two_layers_guide(p):
    with data():
        a = pyro.sample("a", bits(p["w"]))
        pyro.sample("b", bits(p["v"], 0.8 * a))


@case(
    two_layers_guide,
    {"t": [0.4, 0.8, -0.6], "w": [0.5, -0.3], "v": [-0.4, 0.2]},
    "Bernoulli",
)
def two_layers(p):
    with data():
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]))
        a = pyro.sample("a", dist.Bernoulli(logits=p["t"][..., 2] * b - 0.2))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * a, 0.7), obs=X)


def mixture_guide(p):
    pyro.sample("m", dist.Normal(p["m"][..., 0], p["m"][..., 1].exp()))
    with data():
        pyro.sample("k", bits(p["w"]))


@case(
    mixture_guide,
    {"t": [0.4], "m": [0.2, -0.7], "w": [0.5, -0.3]},
    "Bernoulli",
    "Normal",
    local=False,
    units=(("m k x", ""),),
)
def mixture(p):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with data():
        k = pyro.sample("k", dist.Bernoulli(logits=p["t"][..., 0]))
        pyro.sample("x", dist.Normal(m * (2 * k - 1), 1.0), obs=X)


GRID = torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.8, -1.0], [-0.7, 0.1, 0.9]], dtype=torch.float64)


def attention_guide(p):
    with data():
        state = X
        for t in range(3):
            scores = torch.stack([w * state for w in p["w"].unbind(-1)], -1)
            a = pyro.sample(f"a{t}", dist.OneHotCategorical(logits=scores))
            state = 0.5 * state + (a * GRID).sum(-1)


@case(attention_guide, {"t": [0.7], "w": [0.5, -0.3, 0.2]}, "OneHotCategorical")
def attention(p):
    """Hard attention: three steps, three locations, a word at each step."""
    with data():
        state = X
        for t in range(3):
            a = pyro.sample(f"a{t}", dist.OneHotCategorical(torch.ones(3) / 3))
            state = 0.5 * state + (a * GRID).sum(-1)
            pyro.sample(f"y{t}", dist.Normal(p["t"][..., 0] * state, 1.0), obs=X * (t - 1))


def mixed_guide(p):
    with data():
        z = pyro.sample("z", dist.Normal(p["m"][..., 0] * X, p["m"][..., 1].exp()))
        pyro.sample("b", bits(p["w"], 0.5 * z))


@case(mixed_guide, {"t": [0.4, 0.8], "m": [0.5, -0.4], "w": [0.5, -0.3]}, "Bernoulli", "Normal")
def mixed(p):
    with data():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0] * z))
        pyro.sample("x", dist.Normal(z + p["t"][..., 1] * b, 0.9), obs=X)


def nested_guide(p):
    with pyro.plate("groups", 2, dim=-2):
        a = pyro.sample("a", dist.Bernoulli(logits=p["w"][..., 0]))
        with data():
            pyro.sample("b", bits(p["w"], 0.5 * a))


@case(
    nested_guide,
    {"t": [0.4, 0.8], "w": [0.5, -0.3]},
    "Bernoulli",
    nesting=2,
    local=False,
    units=(("a b x", "groups"),),
)
def nested(p):
    with pyro.plate("groups", 2, dim=-2):
        a = pyro.sample("a", dist.Bernoulli(0.4))
        with data():
            b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0] + a))
            pyro.sample("x", dist.Normal(p["t"][..., 1] * b - a, 0.9), obs=X.expand(2, 3))


MASK = torch.tensor([True, False, True])


def masked_guide(p):
    with data(), poutine.mask(mask=MASK):
        pyro.sample("b", bits(p["w"]))


@case(masked_guide, {"t": [0.4, 0.8], "w": [0.5, -0.3]}, "Bernoulli")
def masked(p):
    with data(), poutine.mask(mask=MASK):
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * b, 0.7), obs=X)


def masked_draw_guide(p):
    with data():
        pyro.sample("b", bits(p["w"]).mask(MASK))


@case(masked_draw_guide, {"t": [0.4, 0.8], "w": [0.5, -0.3]}, "Bernoulli")
def masked_draw(p):
    """The draw's own log-probability is masked, and the draw matters all the same."""
    with data():
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]).mask(MASK))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * b, 0.7), obs=X)


def scaled_guide(p):
    with data(), poutine.scale(scale=1.7):
        pyro.sample("b", bits(p["w"]))


@case(scaled_guide, {"t": [0.4, 0.8], "w": [0.5, -0.3]}, "Bernoulli")
def scaled(p):
    with data():
        with poutine.scale(scale=1.7):
            b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]))
        with poutine.scale(scale=0.6):
            pyro.sample("x", dist.Normal(p["t"][..., 1] * b, 0.7), obs=X)


def subsampled_guide(p):
    pyro.sample("g", dist.Bernoulli(logits=p["g"][..., 0]))
    with data(full=12):
        pyro.sample("b", bits(p["w"]))


@case(
    subsampled_guide,
    {"t": [0.4, 0.8], "g": [0.3], "w": [0.5, -0.3]},
    "Bernoulli",
    "subsampled",
    local=False,
)
def subsampled(p):
    g = pyro.sample("g", dist.Bernoulli(0.6))
    with data(full=12):
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0] + g))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * b - 0.2 * g, 0.9), obs=X)


def batch_guide(p):
    with data(full=12):
        pyro.sample("b", bits(p["w"]))


@case(batch_guide, {"t": [0.4, 0.8], "w": [0.5, -0.3]}, "Bernoulli", scale=4.0)
def batch_of_a_larger_plate(p):
    with data(full=12):
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * b, 0.7), obs=X)


def markov_guide(p):
    with data():
        before = 0.0
        for t in pyro.markov(range(3)):
            before = pyro.sample(f"z{t}", bits(p["w"], 0.9 * before))


@case(markov_guide, {"t": [0.4, 0.8], "w": [0.5, -0.3]}, "Bernoulli")
def markov(p):
    with data():
        before = 0.0
        for t in pyro.markov(range(3)):
            before = pyro.sample(f"z{t}", dist.Bernoulli(logits=p["t"][..., 0] * before - 0.3))
            pyro.sample(f"x{t}", dist.Normal(p["t"][..., 1] * before, 0.9), obs=X + t)


@case(
    bernoulli_guide,
    {"t": [0.4, 0.8], "w": [0.5, -0.3]},
    "Bernoulli",
    "coupled",
    local=False,
    units=(("b x", "data"), ("early late", "")),
)
def observed_outside(p):
    pyro.sample("early", dist.Normal(p["t"][..., 0], 1.0), obs=torch.tensor(1.3))
    with data():
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * b, 0.7), obs=X)
    pyro.sample("late", dist.Normal(p["t"][..., 1], 1.0), obs=torch.tensor(-0.4))


def one_datum_guide(p):
    with data(1):
        pyro.sample("b", dist.Bernoulli(logits=p["w"][..., 0]))


@case(one_datum_guide, {"t": [0.4, 0.8], "w": [0.5]}, "Bernoulli")
def batch_of_one(p):
    with data(1):
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * b, 0.7), obs=X[:1])


def vector_guide(p):
    with data():
        logits = torch.stack([w * X for w in p["w"].unbind(-1)], -1)
        pyro.sample("b", dist.Bernoulli(logits=logits).to_event(1))


@case(vector_guide, {"t": [0.4, 0.8, -0.5], "w": [0.5, -0.3, 0.9]}, "Bernoulli")
def vector_of_bits(p):
    with data():
        b = pyro.sample("b", dist.Bernoulli(torch.tensor([0.2, 0.5, 0.6])).to_event(1))
        mean = (b * p["t"]).sum(-1) + b[..., 0] * b[..., 1]
        pyro.sample("x", dist.Normal(mean, 0.8), obs=X)


def normal_guide(p):
    with data():
        pyro.sample("z", dist.Normal(p["w"][..., 0] * X, p["w"][..., 1].exp()))


@case(normal_guide, {"t": [0.4, 0.8], "w": [0.5, -0.3]}, "Normal")
def normal(p):
    with data():
        z = pyro.sample("z", dist.Normal(p["t"][..., 0], 1.0))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * z, 0.7), obs=X)


def two_normals_guide(p):
    with data():
        y = pyro.sample("y", dist.Normal(p["w"][..., 0] * X, p["w"][..., 1].exp()))
        pyro.sample("z", dist.Normal(p["v"][..., 0] * y, p["v"][..., 1].exp()))


@case(two_normals_guide, {"t": [0.4, 0.8], "w": [0.5, -0.3], "v": [0.7, -0.2]}, "Normal")
def two_normals(p):
    """The guide draws y first and the model z: no KL of its own for z in closed form."""
    with data():
        z = pyro.sample("z", dist.Normal(p["t"][..., 0], 1.0))
        y = pyro.sample("y", dist.Normal(p["t"][..., 1] * z, 0.8))
        pyro.sample("x", dist.Normal(y, 0.9), obs=X)


def one_normal_guide(p):
    with data(1):
        pyro.sample("z", dist.Normal(p["w"][..., 0], p["w"][..., 1].exp()))


@case(one_normal_guide, {"t": [0.4, 0.8], "w": [0.5, -0.3]}, "Normal")
def one_normal(p):
    with data(1):
        z = pyro.sample("z", dist.Normal(p["t"][..., 0], 1.0))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * z, 0.7), obs=X[:1])


def parts_guide(p):
    with pyro.plate("data", 12, subsample=torch.arange(2), dim=-2):
        a = pyro.sample("a", dist.Bernoulli(logits=p["w"][..., 0] * X[:2, None]))
        with pyro.plate("parts", 2, dim=-1):
            pyro.sample("b", dist.Bernoulli(logits=p["w"][..., 1] + 0.5 * a + X[:2]))


@case(
    parts_guide,
    {"t": [0.4, 0.8], "w": [0.5, -0.3]},
    "Bernoulli",
    nesting=2,
    local=False,
    units=(("a b x", "data"),),
    scale=6.0,
)
def parts_of_a_datum(p):
    """A batch of a larger plate; a bit of each datum, and one of each of its parts."""
    with pyro.plate("data", 12, subsample=torch.arange(2), dim=-2):
        a = pyro.sample("a", dist.Bernoulli(0.4))
        with pyro.plate("parts", 2, dim=-1):
            b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0] + a))
            pyro.sample("x", dist.Normal(p["t"][..., 1] * b - a, 0.9), obs=X[:2])


def siblings_guide(p):
    with data():
        pyro.sample("a", bits(p["w"]))
    with pyro.plate("others", 2, dim=-1):
        pyro.sample("b", dist.Bernoulli(logits=p["w"][..., 1] * X[:2] + p["w"][..., 0]))


@case(
    siblings_guide,
    {"t": [0.4, 0.8], "w": [0.5, -0.3]},
    "Bernoulli",
    "coupled",
    local=False,
    units=(("a x", "data"), ("b y", "others")),
)
def siblings(p):
    """Two plates side by side that share parameters and no latent."""
    with data():
        a = pyro.sample("a", dist.Bernoulli(logits=p["t"][..., 0]))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * a, 0.7), obs=X)
    with pyro.plate("others", 2, dim=-1):
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]))
        pyro.sample("y", dist.Normal(-p["t"][..., 1] * b, 0.5), obs=X[:2])


def crossed_guide(p):
    with pyro.plate("rows", 2, dim=-2):
        pyro.sample("a", dist.Bernoulli(logits=p["w"][..., 0] * X[:2, None]))
    with data():
        pyro.sample("b", bits(p["w"]))


@case(
    crossed_guide,
    {"t": [0.4, 0.8], "w": [0.5, -0.3]},
    "Bernoulli",
    "coupled",
    nesting=2,
    local=False,
    units=(("a b x", ""),),
)
def crossed(p):
    """A bit of each row and of each column; each entry depends on both."""
    rows, columns = pyro.plate("rows", 2, dim=-2), data()
    with rows:
        a = pyro.sample("a", dist.Bernoulli(0.4))
    with columns:
        b = pyro.sample("b", dist.Bernoulli(logits=p["t"][..., 0]))
    with rows, columns:
        pyro.sample("x", dist.Normal(p["t"][..., 1] * b - a, 0.9), obs=X.expand(2, 3))


def hierarchy_guide(p):
    m = pyro.sample("m", dist.Normal(p["w"][..., 0], p["w"][..., 1].exp()))
    with data(2):
        pyro.sample("z", dist.Normal(0.5 * m + p["v"][..., 0] * X[:2], p["v"][..., 1].exp()))


@case(
    hierarchy_guide,
    {"t": [0.4, 0.8], "w": [0.5, -0.6], "v": [0.4, -0.5]},
    "Normal",
    local=False,
    units=(("m z x", ""),),
)
def hierarchy(p):
    """A mean of all data, and a latent of each."""
    m = pyro.sample("m", dist.Normal(p["t"][..., 0], 1.0))
    with data(2):
        z = pyro.sample("z", dist.Normal(m, 0.9))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * z, 0.8), obs=X[:2])


def normal_siblings_guide(p):
    with data(1):
        pyro.sample("a", dist.Normal(p["w"][..., 0], p["w"][..., 1].exp()))
    with pyro.plate("others", 1, dim=-1):
        pyro.sample("b", dist.Normal(p["v"][..., 0], p["v"][..., 1].exp()))


@case(
    normal_siblings_guide,
    {"t": [0.4, 0.8], "w": [0.5, -0.6], "v": [0.4, -0.5]},
    "Normal",
    local=False,
    units=(("a x", "data"), ("b y", "others")),
)
def normal_siblings(p):
    with data(1):
        a = pyro.sample("a", dist.Normal(p["t"][..., 0], 1.0))
        pyro.sample("x", dist.Normal(p["t"][..., 1] * a, 0.7), obs=X[:1])
    with pyro.plate("others", 1, dim=-1):
        b = pyro.sample("b", dist.Normal(p["t"][..., 0], 0.8))
        pyro.sample("y", dist.Normal(1.5 * p["t"][..., 1] - b, 0.6), obs=X[1:2])
