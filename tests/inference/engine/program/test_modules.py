"""Modules are found wherever a program keeps them; registered ones are trained, all are kept."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from pyro.optim import PyroOptim
from torch import nn

from inference import UserError, fit
from inference.engine.program.modules import modules_of
from inference.engine.program.program import Program
from tests.support.training import interrupted

SIZE = 24
SGD = functools.partial(torch.optim.SGD, lr=1e-3 * SIZE)
quiet = functools.partial(fit, progress=False, precision="float64")


def data():
    torch.manual_seed(1)
    return {"x": torch.randn(SIZE, 3, dtype=torch.float64)}


def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 2))


def observe(x, net):
    pyro.module("net", net)
    loc, scale = net(x).chunk(2, -1)
    with pyro.plate("data", SIZE, subsample=x):
        pyro.sample("x", dist.Normal(loc, (0.1 + scale.square())).to_event(1), obs=x[:, :1])


def nothing(x):
    pass


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = encoder()

    def model(self, x):
        observe(x, self.net)

    def guide(self, x):
        pass


class Plain:
    def __init__(self):
        self.nets = {"first": [encoder()]}

    def __call__(self, x):
        observe(x, self.nets["first"][0])


def of_method():
    holder = Holder()
    return holder.model, holder.guide, holder.net


def of_partial():
    net = encoder()
    return functools.partial(observe, net=net), nothing, net


def of_partial_of_method():
    holder = Holder()
    return functools.partial(holder.model), functools.partial(holder.guide), holder.net


def of_closure():
    net = encoder()

    def model(x):
        observe(x, net)

    return model, nothing, net


def of_default():
    net = encoder()

    def model(x, net=net):
        observe(x, net)

    return model, nothing, net


def of_object():
    plain = Plain()
    return plain, nothing, plain.nets["first"][0]


def of_handler():
    model, guide, net = of_method()
    return pyro.poutine.scale(model, 1.0), guide, net


GLOBAL = encoder()


def reads_global(x):
    through_another(x)


def through_another(x):
    observe(x, GLOBAL)


def of_global():
    GLOBAL.double().load_state_dict(encoder().state_dict())
    return reads_global, nothing, GLOBAL


KINDS = {
    f.__name__: f
    for f in (
        of_method,
        of_partial,
        of_partial_of_method,
        of_closure,
        of_default,
        of_object,
        of_handler,
        of_global,
    )
}
NAMES = {f"net$$${n}" for n, _ in encoder().named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_trains_as_pyro_does_with_each_parameter_once(kind):
    model, guide, net = KINDS[kind]()
    columns = data()
    run = quiet(model, guide, columns, optimizer=SGD, steps=5)
    assert run.params.keys() == NAMES
    pyro.clear_param_store()
    theirs = encoder().double()
    svi = SVI(lambda x: observe(x, theirs), nothing, pyro.optim.SGD({"lr": 1e-3}), Trace_ELBO())
    pyro.set_rng_seed(0)
    for _ in range(5):
        svi.step(columns["x"])
    pyro.clear_param_store()
    for mine, other in zip(net.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(mine.double(), other.double(), rtol=1e-12)  # buffers, too


@pytest.mark.parametrize("kind", KINDS)
def test_modules_and_buffers_are_known_once(kind):
    model, guide, net = KINDS[kind]()
    program = Program(model, guide)
    inside = [part for _, root in program.modules() for part in root.modules()]
    assert len(inside) == len(set(map(id, inside)))
    assert any(part is net for part in inside)
    assert len(list(program.buffers())) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_evaluation_is_in_eval_mode(kind):
    """By dropout, which makes the bound of a training mode another one at each evaluation."""
    model, guide, net = KINDS[kind]()
    still = functools.partial(torch.optim.SGD, lr=0.0)
    run = quiet(model, guide, data(), optimizer=still, steps=1, valid=data())
    net.eval()
    pyro.clear_param_store()
    with torch.no_grad():
        expected = -Trace_ELBO().loss(lambda x: observe(x, net), nothing, **data()) / SIZE
    pyro.clear_param_store()
    assert float(run.trace["held_out"]["elbo"][0, 0]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_seed_has_its_own_or_is_refused(kind):
    model, guide, _ = KINDS[kind]()
    if kind in ("of_closure", "of_default", "of_global"):
        with pytest.raises(UserError, match="closes over"):
            quiet(model, guide, data(), steps=2, seeds=2)
        return
    run = quiet(model, guide, data(), steps=2, seeds=2)
    first, second = run.programs
    own = {id(p) for p in first.parameters.values()}
    assert not own & {id(p) for p in second.parameters.values()}
    assert not {id(b) for _, b in first.buffers()} & {id(b) for _, b in second.buffers()}
    again = quiet(*KINDS[kind]()[:2], data(), steps=2, seeds=[1])
    assert not torch.equal(run.params["net$$$0.weight"], again.params["net$$$0.weight"])


@pytest.mark.parametrize("kind", ["of_method", "of_partial", "of_object", "of_closure"])
def test_interrupted_and_resumed_is_bit_equal_with_its_buffers(kind, tmp_path, monkeypatch):
    def options(name):
        model, guide, net = KINDS[kind]()
        return net, {
            "model": model,
            "guide": guide,
            "data": data(),
            "optimizer": functools.partial(torch.optim.SGD, lr=0.01),
            "steps": 12,
            "batch_size": 12,
            "directory": tmp_path / name,
            "checkpoint_every": 0.0,
            "precision": "float64",
            "progress": False,
        }

    whole, uninterrupted = options("whole")
    fit(**uninterrupted)
    interrupted(7, monkeypatch, **options("stopped")[1])
    resumed, again = options("stopped")
    fit(**again, resume=True)
    assert whole.state_dict()["1.num_batches_tracked"] == 12
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_module_that_is_not_registered_stays_as_it_is_as_in_pyro():
    fixed, free = encoder(), encoder()
    before = {n: p.clone() for n, p in fixed.named_parameters()}

    def model(x):
        fixed.eval()
        observe(x + fixed.to(x)(x).sum(-1, keepdim=True), free)

    run = quiet(model, nothing, data(), optimizer=SGD, steps=3)
    assert run.params.keys() == NAMES
    assert all(torch.equal(before[n].double(), p) for n, p in fixed.named_parameters())


def test_nothing_registered_says_how():
    net = encoder()

    def model(x):
        with pyro.plate("data", SIZE, subsample=x):
            pyro.sample("x", dist.Normal(net(x)[:, :1], 1.0).to_event(1), obs=x[:, :1])

    with pytest.raises(UserError, match="registered"):
        quiet(model, nothing, data(), steps=1)


def test_an_autoguides_model_counts_to_the_guide():
    holder = Holder()
    found = modules_of(model=nothing, guide=AutoNormal(holder.model))
    assert len(found) == 2
    assert next(m for n, m in found.items() if n.startswith("guide.model")) is holder


def test_names_say_where():
    class Owner(PyroModule):
        def __init__(self):
            super().__init__()
            self.hidden = [nn.Linear(1, 1)]

    def model(x):
        return owner, nets

    owner, nets = Owner(), {"a": nn.Linear(1, 1)}
    found = modules_of(model=model, guide=functools.partial(nothing, nets["a"], net=owner.hidden))
    assert list(found) == ["model.nets.a", "model.owner", "model.owner.hidden.0"]


def test_containers_that_hold_themselves_and_big_ones_are_no_trouble():
    loop = {"x": torch.zeros(1)}
    loop["loop"] = loop
    numbers = list(range(100_000))

    def model(x):
        return loop, numbers

    assert modules_of(model=model) == {}


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("capture", [False, True])
def test_a_parameter_of_two_names_is_one(capture):
    """A ``PyroModule`` names its weight at a call, and ``pyro.module`` names it once more.

    The optimiser would step twice; Pyro's SVI steps once.
    """
    x = torch.randn(8, 2)

    def program():
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        linear = PyroModule[torch.nn.Linear](2, 1)

        def model(x):
            pyro.module("linear", linear)
            with pyro.plate("data", len(x)):
                loc = linear(x).squeeze(-1)
                pyro.sample("x", dist.Normal(loc, 1.0), obs=x[:, 0])

        return model, linear

    model, expected = program()
    sgd = PyroOptim(torch.optim.SGD, {"lr": 0.01})
    svi = SVI(model, lambda x: None, sgd, Trace_ELBO())
    for _ in range(3):
        svi.step(x)
    model, found = program()
    quiet(model, lambda x: None, {"x": x}, optimizer=sgd, steps=3, compile=capture)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-12, atol=0)
