"""Constants choose the graph, other values may not; parts drawn or masked need no value."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate

from inference import UserError
from inference.engine.capture.backends import interpreted
from inference.engine.capture.graph import capture
from tests.support.training import assert_same_training, quiet

TABLE = torch.tensor([[0.5, -1.0], [2.0, 0.25], [1.0, 3.0]])
GRID = torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(2, 3)


def captured(function, *arguments):
    """The function, as a graph that a run on these arguments has become."""
    graph = capture(lambda: [function(*arguments)], arguments)
    run = interpreted(graph, arguments)
    return lambda *others: run(others, graph.draw_noise())[0]


AT_A_PLACE = {
    "row": lambda k: TABLE[k],
    "column": lambda k: TABLE[:, -k],
    "last": lambda k: TABLE[..., k],
    "new": lambda k: TABLE[None, k, None],
    "two": lambda k: TABLE[k][k],
    "both": lambda k: TABLE[k, k],
    "beside a list": lambda k: TABLE[[0, 2], k],
    "beside a mask": lambda k: TABLE[torch.arange(3) > 0, k],
    "in a cube": lambda k: TABLE.expand(2, 3, 2)[k, 1:, k],
}


@pytest.mark.parametrize("function", AT_A_PLACE.values(), ids=AT_A_PLACE)
def test_a_place_may_be_another_at_the_next_call(function):
    run = captured(function, torch.tensor(0))
    for place in (0, 1):
        assert torch.equal(run(torch.tensor(place)), function(torch.tensor(place)))


def triangle(x):
    return x[torch.arange(2)[:, None] >= torch.arange(3)] ** 2


def triangle_put(x):
    y = torch.zeros(2, 3)
    y[torch.ones(2, 3).tril() > 0] = x[0].cumsum(0)
    return y


def chosen(x):
    size = torch.arange(4).max()
    return x * 2 if size > 2 and float(size) > int(torch.tensor([0, 1])[1]) else x * 3


def positive_part(x):
    y = x * 3
    inside = x > 0
    y[inside] = x[inside]
    return y


def positive_rows(x):
    y = x * 3
    inside = x.sum(1) > 0
    y[inside] = x[inside]
    return y


@pytest.mark.parametrize("function", [triangle, triangle_put, chosen, positive_part, positive_rows])
def test_constants_and_parts_put_into_others(function):
    def with_gradient(x):
        leaf = x.detach().requires_grad_()
        value = function(leaf)
        (gradient,) = torch.autograd.grad(value.square().sum(), leaf)
        return torch.cat([value.reshape(-1), gradient.reshape(-1)]).detach()

    run = captured(with_gradient, GRID)
    for x in (GRID, -GRID, GRID + 1):
        assert torch.equal(run(x), with_gradient(x))


def by_a_view_that_was_changed(x):
    k = torch.zeros(2)
    seen = k[1:]
    k[1] = x[0, 0]
    return x if seen[0] > 0 else -x


def by_a_list(x):
    return x * torch.tensor([x[0, 0], x[0, 1], 1.0])


def by_a_sum_of_a_part(x):
    return x[x > 0].sum()


def by_another_part(x):
    y = x * 3
    y[x > 1] = x[x > 0]
    return y


def by_a_name(x):
    return x * {"-2.0": 1.0}.get(f"{x[0, 0]:.1f}", 2.0)


def by_a_draw(x):
    return x if torch.ones(()).normal_() > 0 else -x


@pytest.mark.parametrize(
    "function",
    [
        by_a_view_that_was_changed,
        by_a_list,
        by_a_sum_of_a_part,
        by_another_part,
        by_a_name,
        by_a_draw,
    ],
)
def test_other_values_are_refused_by_their_line(function):
    with pytest.raises(UserError, match=r"test_values.py line \d+, `.*needs the value"):
        captured(function, GRID)


def observed(fn):
    """A model of eight rows, and a guide, of which no line is at work when fn is scored."""

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 8, subsample=x):
            pyro.sample("x", fn(z), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("l", torch.tensor(0.0)), 1.0))

    return model, guide, {"x": torch.linspace(-1, 1, 8)}


def test_a_distribution_of_pyros_is_refused_by_its_site():
    program = observed(lambda z: dist.NanMaskedNormal(z, 1.0))
    with pytest.raises(UserError, match="site 'x', a NanMaskedNormal, needs the value"):
        quiet(*program, steps=1, compile=True)


def impossible(x):
    """Three kinds, of which the third cannot be while its data are impossible, too."""
    loc = pyro.param("loc", lambda: torch.tensor([0.0, 1.0, 2.0]))
    with pyro.plate("data", 8, subsample=x):
        kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.5, 0.5, 0.0])))
        pyro.sample("x", dist.Normal(loc[kind], 1.0), obs=x)


def assigning(x):
    with pyro.plate("data", 8, subsample=x):
        probs = torch.tensor([0.3, 0.7, 0.0]).expand(len(x), 3)
        pyro.sample("kind", dist.Categorical(probs), infer={"enumerate": "parallel"})


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("summed_out", [True, False])
def test_enumeration_with_impossible_values(summed_out):
    model, guide = (
        (config_enumerate(impossible), lambda x: None)
        if summed_out
        else (
            impossible,
            assigning,
        )
    )
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    data = {"x": torch.linspace(-1, 1, 8)}
    run = assert_same_training(model, guide, data, elbo, steps=5, batch_size=4)
    assert run.trace["svi"]["elbo"].notnull().all()
