"""Optimisers of torch and Pyro, step by step as Pyro's SVI takes them, and what is refused."""

import functools
import io

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch.distributions import constraints

from inference import UserError
from inference.engine.optimizers import adapter_of

SIZE = 6
STEPS = 5


def by_name(name):
    return {"lr": 0.02 if name.endswith("loc") else 0.005}


def by_two(module, name):
    return {"lr": 0.02 if name == "loc" else 0.005}


def clip_by_two(module, name):
    return {"clip_norm": 0.7} if name == "loc" else {}


SCHEDULED = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}}
PYROS = {
    "Adam": lambda: pyro.optim.Adam({"lr": 0.01, "betas": (0.8, 0.9)}),
    "SGD": lambda: pyro.optim.SGD({"lr": 0.01, "momentum": 0.9}),
    "RMSprop": lambda: pyro.optim.RMSprop({"lr": 0.01}),
    "ClippedAdam": lambda: pyro.optim.ClippedAdam({"lr": 0.01, "lrd": 0.9, "clip_norm": 0.5}),
    "AdagradRMSProp": lambda: pyro.optim.AdagradRMSProp({"eta": 0.1}),
    "DCTAdam": lambda: pyro.optim.DCTAdam({"lr": 0.01, "lrd": 0.9}),
    "clip_norm": lambda: pyro.optim.SGD({"lr": 0.01}, {"clip_norm": 0.7}),
    "clip_value": lambda: pyro.optim.Adam({"lr": 0.01}, {"clip_value": 0.3}),
    "by_name": lambda: pyro.optim.Adam(by_name),
    "by_two": lambda: pyro.optim.SGD(by_two, clip_by_two),
    "ExponentialLR": lambda: pyro.optim.ExponentialLR({**SCHEDULED, "gamma": 0.5}),
    "StepLR": lambda: pyro.optim.StepLR({**SCHEDULED, "step_size": 2, "gamma": 0.1}),
    "MultiStepLR": lambda: pyro.optim.MultiStepLR(
        {**SCHEDULED, "milestones": [1, 3]}, {"clip_norm": 0.7}
    ),
}


def model(x, late):
    loc = pyro.param("loc", torch.tensor([0.3, -0.2]))
    scale = pyro.param("scale", torch.tensor(1.5), constraint=constraints.positive)
    if late:
        loc = loc + pyro.param("late.loc", torch.tensor(0.1))
    with pyro.plate("data", SIZE):
        pyro.sample("x", dist.Normal(loc, scale).to_event(1), obs=x)


def guide(x, late):
    pass


def data():
    return torch.randn(SIZE, 2, generator=torch.Generator().manual_seed(0))


def values():
    return {name: value.detach().clone() for name, value in pyro.get_param_store().items()}


def pyros(optimizer, late, epochs):
    pyro.clear_param_store()
    svi = SVI(model, guide, optimizer, Trace_ELBO())
    for step in range(STEPS):
        svi.step(data(), late(step))
        if epochs:
            optimizer.step()
    return values()


def named():
    return dict(pyro.get_param_store().named_parameters())


def gradient(late):
    for parameter in named().values():
        parameter.grad = None
    (Trace_ELBO().differentiable_loss(model, guide, data(), late) / SIZE).backward()


def taken(moving, steps, late):
    for step in steps:
        gradient(late(step))
        moving.follow(named())
        moving.scale_rates(1.0)
        moving.step(lambda: SIZE)
        moving.end_epoch()


def reread(state):
    """Through a file, as a checkpoint does."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def early(step):
    return False


def born(step):
    """Used in steps 1 and 3, and first in 1."""
    return step % 2 == 1


@pytest.mark.parametrize("late", [early, born])
@pytest.mark.parametrize("name", PYROS)
def test_five_steps_are_pyros(name, late):
    expected = pyros(PYROS[name](), late, name.endswith("LR"))
    pyro.clear_param_store()
    taken(adapter_of(PYROS[name]()), range(STEPS), late)
    found = values()
    pyro.clear_param_store()
    assert found.keys() == expected.keys()
    for n, value in expected.items():
        assert torch.allclose(found[n], value, rtol=1e-12), n


@pytest.mark.parametrize("late", [early, born])
@pytest.mark.parametrize("name", PYROS)
@pytest.mark.parametrize("kept", [1, 2, 4])
def test_taken_up_from_a_file_it_is_bit_equal(name, late, kept):
    pyro.clear_param_store()
    whole = adapter_of(PYROS[name]())
    taken(whole, range(kept), late)
    state = reread(whole.state_dict())
    parameters = {n: p.detach().clone() for n, p in named().items()}
    taken(whole, range(kept, STEPS), late)
    expected = values()
    with torch.no_grad():
        for n, p in named().items():
            if n in parameters:
                p.copy_(parameters[n])
    if "late.loc" not in parameters and "late.loc" in named():
        del pyro.get_param_store()["late.loc"]
    again = adapter_of(PYROS[name]())
    again.load_state_dict(state, named())
    taken(again, range(kept, STEPS), late)
    found = values()
    pyro.clear_param_store()
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_a_torch_optimiser_follows_the_loss_per_datum_and_a_late_parameter_begins_anew():
    sgd = functools.partial(torch.optim.Adam, lr=0.01, eps=1e-30)  # of no scale
    expected = pyros(pyro.optim.Adam({"lr": 0.01, "eps": 1e-30}), born, False)
    pyro.clear_param_store()
    taken(adapter_of(sgd), range(STEPS), born)
    found = values()
    pyro.clear_param_store()
    assert all(torch.allclose(found[n], expected[n], rtol=1e-10) for n in expected)


def test_pyros_own_is_left_alone():
    own = pyro.optim.ClippedAdam({"lr": 0.01})
    taken(adapter_of(own), range(2), early)
    pyro.clear_param_store()
    assert not own.optim_objs


def test_a_schedule_scales_all_rates_of_torchs():
    pyro.clear_param_store()
    moving = adapter_of(functools.partial(torch.optim.SGD, lr=0.1))
    gradient(False)
    moving.follow(named())
    moving.scale_rates(0.25)
    before = {n: p.detach().clone() for n, p in named().items()}
    moving.step(lambda: SIZE)
    for n, p in named().items():
        assert torch.allclose(before[n] - p, 0.025 * p.grad)
    pyro.clear_param_store()


def made(parameters):
    return torch.optim.lr_scheduler.ExponentialLR(torch.optim.SGD(parameters, lr=0.1), 0.9)


PLATEAU = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}}
SCHEDULER = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)


@pytest.mark.parametrize(
    ("optimizer", "sentence"),
    [
        (torch.optim.Adam([torch.zeros(1, requires_grad=True)]), "is a finished Adam"),
        (torch.optim.lr_scheduler.ExponentialLR(SCHEDULER, 0.9), "is a finished ExponentialLR"),
        ("adam", "the optimizer is a str"),
        ({"lr": 0.1}, "the optimizer is a dict"),
        (made, "makes a scheduler"),
        (torch.optim.LBFGS, "LBFGS"),
        (lambda parameters: None, "makes a NoneType"),
        (functools.partial(torch.optim.Adam, rate=0.1), "cannot be made: .*'rate'"),
        (functools.partial(torch.optim.Adam, lr=-1.0), "cannot be made: Invalid learning rate"),
        (functools.partial(torch.optim.SGD, lr=float("nan")), "learning rate is nan"),
        (functools.partial(torch.optim.SGD, lr=float("inf")), "learning rate is inf"),
        (pyro.optim.Adam({"lr": float("nan")}), "learning rate"),
        (pyro.optim.ReduceLROnPlateau(PLATEAU), "ReduceLROnPlateau"),
        (pyro.optim.Adam({"rate": 0.1}), "cannot be made: .*'rate'"),
        (pyro.optim.ClippedAdam({"rate": 0.1}), "cannot be made: .*'rate'"),
        (pyro.optim.Adam(lambda name: 0.1), "cannot be made"),
    ],
)
def test_refused_in_a_sentence(optimizer, sentence):
    pyro.clear_param_store()
    with pytest.raises(UserError, match=sentence):
        taken(adapter_of(optimizer), range(1), early)
    pyro.clear_param_store()


@pytest.mark.parametrize("name", ["ClippedAdam", "ExponentialLR", "by_name", "clip_norm"])
def test_no_schedule_beside_rates_of_its_own(name):
    with pytest.raises(UserError, match="leave out one"):
        adapter_of(PYROS[name]()).scale_rates(0.5)


def test_no_schedule_beside_a_torch_optimiser_that_decays_by_itself():
    pyro.clear_param_store()
    clipped = functools.partial(pyro.optim.clipped_adam.ClippedAdam, lr=0.1, lrd=0.9)
    moving = adapter_of(clipped)
    taken(moving, range(2), early)
    with pytest.raises(UserError, match="changes its learning rate itself"):
        moving.scale_rates(0.5)
    pyro.clear_param_store()
