"""estimator="auto": one decision, kept, the same for all; and the fit is that of the chosen one."""

import contextlib
import copy
import itertools
import json

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

from inference import UserError, fit
from inference.engine.program.program import Program
from inference.estimators import (
    IWAE,
    DisARM,
    Exact,
    GumbelSoftmax,
    LeaveOneOut,
    Marginal,
    ScoreFunction,
)
from inference.workflow.auditing.moments import gradient_of
from inference.workflow.choosing import choice
from inference.workflow.choosing.candidates import MOST, candidates, named_choices
from inference.workflow.choosing.choice import changes
from inference.workflow.choosing.race import Ratio, Runner, distinct, not_worse, race, ratio
from inference.workflow.fitting.said import said
from ppl_models.toys import SquaredDistance, SquaredDistanceGuide
from tests.support.training import interrupted, quiet, same

X = {"x": torch.tensor([0.3, 1.4, 0.8, -0.2, 0.5, 1.1])}
FEW = {"loo": LeaveOneOut(2), "score": ScoreFunction(), "marginal": Marginal()}


def model(x):
    scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("data", 6, subsample=x):
        b = pyro.sample("b", dist.Bernoulli(torch.full((len(x),), 0.3)))
        pyro.sample("x", dist.Normal(b, scale), obs=x)


def guide(x):
    w = pyro.param("w", torch.tensor([0.1, 0.2]))
    with pyro.plate("data", 6, subsample=x):
        pyro.sample("b", dist.Bernoulli(logits=w[0] + w[1] * x))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A warm-up of few steps."""
    monkeypatch.setattr(choice, "WARM_UP", 10)


def decision(estimator, steps=6, **options):
    run = quiet(model, guide, X, estimator, steps=steps, batch_size=3, **options)
    return run, run.config["choice"]


def test_the_fit_is_bit_for_bit_that_of_the_chosen_estimator():
    run, chosen = decision(FEW)
    alone = quiet(model, guide, X, FEW[chosen["chosen"]], steps=6, batch_size=3)
    same(run.params, alone.params)
    a, b = (r.trace["svi"].to_dataset().drop_vars("seconds") for r in (run, alone))
    np.testing.assert_array_equal(a["elbo"], b["elbo"])


def test_the_least_effort_is_chosen_if_it_saves_a_fifth():
    _, chosen = decision(FEW)
    efforts = {name: effort for name, (effort, *_) in chosen["efforts"].items()}
    assert {name: cost for name, (_, cost, _) in chosen["efforts"].items()} == {
        "loo": 2,
        "score": 1,
        "marginal": 2,
    }
    value, low, high = chosen["ratio"]
    assert low <= value <= high
    assert chosen["chosen"] == min(efforts, key=efforts.__getitem__) != "loo"
    assert value <= 0.8
    assert high < 1


def test_the_efforts_are_second_moments_times_evaluations():
    """Of a gradient without noise: twice its exact square, whatever the round."""
    toy, data = (
        Program(SquaredDistance().double(), SquaredDistanceGuide(0.3).double()),
        torch.zeros(1),
    )
    batch = {"x": data.double()}
    with toy.scope():
        toy.initialise(batch, 1)
        exact = gradient_of(Exact(), toy, batch).square().sum().item()
        runners = {"sum": Runner(Marginal(), 2), "score": Runner(ScoreFunction(), 1)}
        race(runners, toy, itertools.repeat(batch), contextlib.nullcontext)
    assert runners["sum"].effort == pytest.approx(2 * exact, rel=1e-9)
    assert len({round(square, 12) for square in runners["score"].squares}) == 2  # of its two draws


def test_a_module_that_a_function_closes_over_is_put_back():
    """It is the user's own, not a copy: the fit begins where it was."""
    net = torch.nn.Linear(1, 1).double()
    start = copy.deepcopy(net.state_dict())

    def closing(x):
        pyro.module("net", net)
        with pyro.plate("data", 6, subsample=x):
            pyro.sample("b", dist.Bernoulli(logits=net(x[:, None])[:, 0]))

    run = quiet(model, closing, X, FEW, steps=3, batch_size=3)
    chosen, weight = FEW[run.config["choice"]["chosen"]], net.weight.item()
    net.load_state_dict(start)
    quiet(model, closing, X, chosen, steps=3, batch_size=3)
    assert weight == net.weight.item() != start["weight"].item()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"seeds": 2}, id="seeds"),
        pytest.param({"steps": 9}, id="steps"),
        pytest.param({"compile": True}, id="compiled", marks=pytest.mark.slow),
        pytest.param({"seeds": 2, "jobs": 2}, id="jobs", marks=pytest.mark.slow),
    ],
)
def test_one_decision_whatever_the_seeds_the_steps_and_capture(options):
    assert decision(FEW, **options)[1] == decision(FEW)[1]


def test_never_made_again_on_resume(tmp_path, monkeypatch):
    options = {"steps": 12, "batch_size": 3, "estimator": FEW, "checkpoint_every": 0.0}
    options |= {"model": model, "guide": guide, "data": X, "directory": tmp_path / "a"}
    whole, kept = decision(FEW, steps=12, directory=tmp_path / "whole")
    interrupted(11, monkeypatch, progress=False, precision="float64", **options)  # of the fit

    def again(job):
        raise AssertionError("decided again")

    monkeypatch.setattr(choice, "decide", again)
    run = quiet(resume=True, **options)
    assert run.config["choice"] == json.loads((tmp_path / "a/config.json").read_text())["choice"]
    assert run.config["choice"] == kept
    same(run.params, whole.params)
    more = quiet(resume=True, **options | {"steps": 14})
    assert more.trace["svi"].attrs["chosen"] == said(kept)


def test_auto_takes_every_candidate_that_takes_the_program():
    run, chosen = decision("auto")
    raced = {"LeaveOneOut(2)", "LeaveOneOut(4)", "ScoreFunction", "ScoreFunction(MovingAverage)"}
    raced |= {"DisARM", "ARMS(4)", "Marginal", "REBAR", "PerSite"}
    assert set(chosen["efforts"]) == raced
    assert chosen["refused"]["PerSite"] == "the same as DisARM"
    assert "reparameterised" in chosen["refused"]["Pathwise"]
    assert chosen["chosen"] in str(run.table().caption)


def test_where_all_sites_are_reparameterised_the_rest_is_pathwise_itself():
    def normal(x):
        with pyro.plate("data", 6, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def mean_field(x):
        w = pyro.param("w", torch.tensor(0.1))
        with pyro.plate("data", 6, subsample=x):
            pyro.sample("z", dist.Normal(w * x, 1.0))

    found = quiet(normal, mean_field, X, "auto", steps=1).config["choice"]
    assert found["incumbent"] == "Pathwise"
    repeated = {n for n, why in found["refused"].items() if why == "the same as Pathwise"}
    assert repeated >= {"ScoreFunction", "DisARM", "Marginal", "REBAR", "PerSite"}


def test_what_is_too_dear_is_left_out_before_it_costs():
    runs = []

    def wide(x):
        runs.append(1)
        with pyro.plate("data", 6, subsample=x):
            b = pyro.sample("b", dist.Bernoulli(torch.full((len(x), 40), 0.3)).to_event(1))
            pyro.sample("x", dist.Normal(b.sum(-1), 1.0), obs=x)

    def of_wide(x):
        w = pyro.param("w", torch.zeros(40))
        with pyro.plate("data", 6, subsample=x):
            pyro.sample("b", dist.Bernoulli(logits=w.expand(len(x), 40)).to_event(1))

    found = quiet(wide, of_wide, X, FEW, steps=1).config["choice"]
    assert (
        found["refused"]["marginal"]
        == f"one gradient takes more than {MOST} evaluations of the model"
    )
    assert sum(runs) < found["evaluations"] + 100


def test_evaluations_are_those_of_the_model():
    """Counted in the model itself, less those of the fit and of looking at the program."""
    runs = []

    def counted(x):
        runs.append(1)
        model(x)

    found = quiet(counted, guide, X, FEW, steps=1).config["choice"]
    with_race = len(runs)
    runs.clear()
    quiet(counted, guide, X, FEW[found["chosen"]], steps=1)
    looked = with_race - len(runs) - found["evaluations"]
    assert 0 <= looked <= 20  # initialising the copy, and naming its terms


def test_a_change_needs_a_fifth_beyond_the_interval():
    assert changes(Ratio(0.79, 0.6, 0.99))
    assert not changes(Ratio(0.79, 0.6, 1.01))
    assert not changes(Ratio(0.85, 0.8, 0.9))


def test_the_interval_covers_at_its_level():
    """Of a ratio of two exponential means, paired; 99 % nominal, ≥ 95 % of 300 seen."""
    draws = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        shared = draws.exponential(size=64)
        a = Runner(LeaveOneOut(2), 3, list(shared + draws.exponential(size=64)))
        b = Runner(LeaveOneOut(2), 2, list(shared + draws.exponential(size=64)))
        found = ratio(a, b)
        covered += found.low <= 1.5 <= found.high
    assert covered >= 0.95 * 300


def test_the_worse_leave_and_repetitions_are_named():
    values = itertools.cycle([1.0, 2.0, 3.0])
    squares = [next(values) for _ in range(16)]
    runners = {
        "a": Runner(LeaveOneOut(2), 1, squares),
        "twin": Runner(LeaveOneOut(2), 1, list(squares)),
        "dear": Runner(LeaveOneOut(2), 2, list(squares)),
    }
    assert distinct(runners, list(runners)) == ["a", "dear"]
    assert runners["twin"].same_as == "a"
    assert not_worse(runners, ["a", "dear"]) == ["a"]


@pytest.mark.parametrize(
    ("estimator", "says"),
    [
        ({"g": GumbelSoftmax(temperature=0.5)}, "'g' is biased or of a bound"),
        ({"i": IWAE(3)}, "'i' is biased or of a bound"),
        ({}, "empty"),
        ({"d": "DisARM"}, "is the text 'DisARM'"),
        ("DisARM", "is the text 'DisARM'"),
    ],
)
def test_what_cannot_be_chosen_among_is_refused(estimator, says):
    with pytest.raises(UserError, match=says):
        fit(model, guide, X, estimator, steps=1)


def test_a_program_with_latents_to_be_summed_out_is_refused():
    def summed(x):
        loc = pyro.param("loc", torch.tensor([0.0, 1.0]))
        with pyro.plate("data", 6, subsample=x):
            b = pyro.sample(
                "b", dist.Categorical(torch.ones(2) / 2), infer={"enumerate": "parallel"}
            )
            pyro.sample("x", dist.Normal(loc[b], 1.0), obs=x)

    quiet(summed, lambda x: None, X, TraceEnum_ELBO(max_plate_nesting=1), steps=1)
    with pytest.raises(UserError, match="'b' is to be summed out: give estimator=TraceEnum_ELBO"):
        quiet(summed, lambda x: None, X, "auto", steps=1)


def test_one_that_is_alone_is_taken_without_a_race():
    _, chosen = decision({"loo": LeaveOneOut(2), "disarm": DisARM()})
    assert len(chosen["efforts"]) == 2
    _, alone = decision({"loo": LeaveOneOut(2)})
    assert alone["evaluations"] == 0
    assert said(alone) == "estimator loo: no other takes the program"


def test_the_candidates_are_all_unbiased_for_the_elbo():
    assert list(named_choices(candidates())) == list(candidates())
