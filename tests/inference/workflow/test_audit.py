"""audit: its figures are the analytic ones, a bias is seen, refusals and costs are right."""

import time

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO

from inference import UserError, audit
from inference.estimators import (
    DisARM,
    Exact,
    GumbelSoftmax,
    LeaveOneOut,
    MovingAverage,
    Pathwise,
    ScoreFunction,
)
from inference.workflow.auditing.bias import TOLERANCE
from inference.workflow.auditing.moments import Moments
from ppl_models.toys import (
    ExpectedSquare,
    ExpectedSquareGuide,
    SquaredDistance,
    SquaredDistanceGuide,
)
from tests.support.examples import local

ONE = {"x": torch.zeros(1)}
A, B, THETA = 2.0, 3.0, 0.4
MU = A * THETA + B


def of(result, name, step=0):
    return next(r for r in result.rows if r.name == name and r.step == step)


@pytest.mark.parametrize("reparameterised", [False, True])
def test_expected_square_has_the_analytic_gradient_and_variances(reparameterised):
    """2aμ; a²(μ⁴ + 14μ² + 15) for the score, 4a² for the path."""
    samples = 1_000_000
    guide = ExpectedSquareGuide(THETA, A, B, reparameterised=reparameterised)
    guide.theta = torch.nn.Parameter(torch.full((samples,), THETA))  # one for each draw
    estimator = Pathwise() if reparameterised else ScoreFunction()
    loss = estimator.differentiable_loss(ExpectedSquare(), guide, torch.zeros(samples))
    (gradients,) = torch.autograd.grad(loss, guide.theta)
    expected = 4 * A**2 if reparameterised else A**2 * (MU**4 + 14 * MU**2 + 15)
    z = (gradients.mean() - 2 * A * MU) / (gradients.var() / samples).sqrt()
    assert abs(z) < 4.5
    centred = (gradients - gradients.mean()) ** 2
    assert abs(centred.mean() - expected) < 4.5 * centred.std() / samples**0.5
    assert centred.std() / samples**0.5 < 0.05 * expected


def test_the_exact_gradient_is_found_and_nobody_is_accused():
    start = time.perf_counter()
    result = audit(
        SquaredDistance(),
        SquaredDistanceGuide(0.3),
        ONE,
        [ScoreFunction(), ScoreFunction(baseline=MovingAverage()), DisARM(), Trace_ELBO()],
        samples=300,
        progress=False,
    )
    assert result.reference == "the exact gradient"
    assert not any(r.biased for r in result.rows)
    spent = 1e3 * (time.perf_counter() - start)
    assert 0 < 300 * sum(r.milliseconds for r in result.rows) < 2 * spent  # medians
    quiet, loud = of(result, "DisARM"), of(result, "ScoreFunction")
    assert quiet.variance < 0.1 * loud.variance
    assert (quiet.evaluations, loud.evaluations) == (2, 1)
    ranked = sorted(result.rows, key=lambda r: r.second_moment * r.milliseconds)
    assert list(map(str, result.table().columns[0].cells)) == [r.name for r in ranked]


def test_a_bias_is_seen_and_what_cannot_be_seen_is_said():
    result = audit(
        SquaredDistance(),
        SquaredDistanceGuide(0.3),
        ONE,
        [GumbelSoftmax(temperature=2.0), DisARM(), Exact()],
        samples=500,
        progress=False,
    )
    relaxed, pairs, enumerated = result.rows
    assert relaxed.says == "biased"
    assert relaxed.bias > 0.2
    assert pairs.says == "cannot tell"  # of biases below its resolution
    assert TOLERANCE < pairs.resolution < 0.2
    assert enumerated.says == "unbiased"
    assert [r.bias for r in (pairs, enumerated)] == pytest.approx([0, 0], abs=0.01)
    shown = [str(cell).partition("!")[0] for cell in result.table().columns[1].cells]
    assert set(shown) == {"<0", f"<{100 * pairs.resolution:.0f}", f"{100 * relaxed.bias:.0f}"}


def test_without_the_exact_gradient_the_quietest_unbiased_one_is_the_reference():
    data = local(6)[2]

    def gamma(x):
        scale = pyro.param("scale", torch.tensor(1.5), constraint=dist.constraints.positive)
        with pyro.plate("data", 6, subsample=x):
            pyro.sample("z", dist.Gamma(2.0, scale))

    def model_of_gamma(x):
        with pyro.plate("data", 6, subsample=x):
            z = pyro.sample("z", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    result = audit(
        model_of_gamma,
        gamma,
        data,
        [Pathwise(), Trace_ELBO()],
        samples=200,
        progress=False,
    )
    assert result.reference == "the quietest unbiased estimator"
    assert [r.against for r in result.rows] == ["Trace_ELBO", "Pathwise"]
    assert "site 'z' is a Gamma" in result.inexact
    assert "no exact gradient: Exact enumerates" in str(result.table().caption)
    assert not any(r.biased for r in result.rows)


def mixture(x):
    with pyro.plate("data", 4, subsample=x):
        z = pyro.sample("z", dist.Bernoulli(0.4), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(1.5)) * z, 1.0), obs=x)


@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
def test_bounds_that_sum_over_a_latent_are_labelled_apart_and_compared_with_their_own_kind():
    estimators = {
        "enumerated": TraceEnum_ELBO(max_plate_nesting=1),
        "with particles": TraceEnum_ELBO(max_plate_nesting=1, num_particles=2),
        "drawn": Trace_ELBO(),
    }
    x = {"x": torch.tensor([0.1, 1.2, -0.3, 2.0])}
    result = audit(mixture, lambda x: None, x, estimators, samples=40, progress=False)
    assert [(r.bound, r.against) for r in result.rows] == [
        ("ELBO, summed over z", "with particles"),
        ("ELBO, summed over z", "enumerated"),
        ("ELBO, z drawn by the model", ""),
    ]
    assert [r.says for r in result.rows] == ["unbiased", "unbiased", "cannot tell"]
    assert "latent site 'z' of the model is not in the guide" in result.inexact


def test_a_quadrature_that_has_not_converged_is_no_reference():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 1, subsample=x):
            pyro.sample("x", dist.Bernoulli(logits=40.0 * z.sign() + 30 * z), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.2)), 1.0))

    result = audit(model, guide, ONE, [ScoreFunction()], samples=10, progress=False)
    assert result.reference == "nothing"
    assert "quadrature over its Normal latents has not converged" in result.inexact


def test_a_program_with_noise_of_its_own_has_no_exact_gradient():
    def model(x):
        z = pyro.sample("z", dist.Bernoulli(0.4))
        with pyro.plate("data", 1, subsample=x):
            pyro.sample("x", dist.Normal(z + torch.rand(()), 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("m", torch.tensor(0.2))))

    result = audit(model, guide, ONE, [ScoreFunction()], samples=10, progress=False)
    assert result.reference == "nothing"
    assert "draws random numbers that are no latents" in result.inexact


def test_along_a_training_the_program_moves_and_the_tree_keeps_every_moment(tmp_path):
    guide = SquaredDistanceGuide(0.3)
    estimators = {"score": ScoreFunction(), "pair": LeaveOneOut(2)}
    before = guide.logit.detach().clone()
    result = audit(SquaredDistance(), guide, ONE, estimators, samples=20, at=(0, 5), progress=False)
    assert guide.logit != before
    tree = result.tree
    assert tree["audit"]["variance"].sizes == {"estimator": 2, "step": 2}
    assert tree["by_parameter"]["variance"].sizes["parameter"] == 1
    assert list(tree["audit"]["evaluations"].sel(step=0).to_numpy()) == [1.0, 2.0]
    result.plot(tmp_path / "audit.png")
    assert (tmp_path / "audit.png").stat().st_size > 5000


def test_at_step_0_nothing_is_trained():
    guide = SquaredDistanceGuide(0.3)
    before = guide.logit.detach().clone()
    audit(SquaredDistance(), guide, ONE, [ScoreFunction()], samples=5, progress=False)
    assert torch.isclose(guide.logit.to(before), before)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samples": 1}, "samples is 1: a variance needs two"),
        ({"at": ()}, "after how many optimiser steps"),
        ({"at": -1}, "at is -1: say after how many optimiser steps"),
        ({"at": (0, -3)}, "after how many optimiser steps"),
        ({"batch_size": 0}, "batch_size is 0: give a whole number, at least 1"),
        ({"batch_size": -2}, "batch_size is -2: give a whole number, at least 1"),
    ],
)
def test_senseless_options_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        audit(SquaredDistance(), SquaredDistanceGuide(), ONE, [ScoreFunction()], **options)


@pytest.mark.parametrize(
    ("estimators", "sentence"),
    [
        ([], "give one or more estimators"),
        ("LeaveOneOut", r"estimators is 'LeaveOneOut': give a list, as in \[ScoreFunction\(\)\]"),
        (ScoreFunction(), "give a list"),
        (
            ["LeaveOneOut:4"],
            r"the text 'LeaveOneOut:4': give the object, LeaveOneOut\(\)",
        ),
        ([ScoreFunction], "the class ScoreFunction: give an instance of it"),
        ({"mine": 3}, "the estimator is a int: give a pyro.infer.ELBO"),
        (
            [ScoreFunction(), ScoreFunction()],
            "two estimators are called ScoreFunction: give",
        ),
    ],
)
def test_what_is_no_estimator_is_refused(estimators, sentence):
    with pytest.raises(UserError, match=sentence):
        audit(SquaredDistance(), SquaredDistanceGuide(), ONE, estimators, progress=False)


def test_a_refusal_names_the_site():
    with pytest.raises(UserError, match="site 'b' is a Bernoulli"):
        audit(SquaredDistance(), SquaredDistanceGuide(), ONE, [Pathwise()], progress=False)


def test_refusals_may_be_left_out_and_settle_nothing(monkeypatch):
    """One gradient tells; baselines settle once, in the audit itself."""
    settled = []
    monkeypatch.setattr(
        "inference.workflow.audit.settle",
        lambda e, *_: settled.append(type(e).__name__) or e.eval(),
    )
    result = audit(
        SquaredDistance(),
        SquaredDistanceGuide(),
        ONE,
        [Pathwise(), ScoreFunction(baseline=MovingAverage())],
        samples=2,
        skip_refused=True,
        progress=False,
    )
    assert settled == ["ScoreFunction"]
    assert list(result.refused) == ["Pathwise"]
    assert "site 'b' is a Bernoulli" in result.refused["Pathwise"]
    with pytest.raises(UserError, match="no estimator takes the program; Pathwise says"):
        audit(
            *(SquaredDistance(), SquaredDistanceGuide(), ONE, [Pathwise()]),
            skip_refused=True,
            progress=False,
        )


class OneNumber(torch.nn.Linear):
    """y (N,) → (N,)."""

    def forward(self, y):
        return super().forward(y[:, None])[:, 0]


def test_what_a_baseline_network_is_fitted_by_is_no_bias():
    """Pyro's TraceGraph_ELBO adds the network's own loss, which has no part in the ELBO."""
    network = OneNumber(1, 1)

    def model(y):
        with pyro.plate("data", 6, subsample=y):
            z = pyro.sample("z", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(z, 0.6), obs=y)

    def guide(y):
        pyro.module("baseline", network)
        logits = pyro.param("logits", torch.tensor(0.3))
        fitted = {"baseline": {"nn_baseline": network, "nn_baseline_input": y}}
        with pyro.plate("data", 6, subsample=y):
            pyro.sample("z", dist.Bernoulli(logits=logits), infer=fitted)

    found = audit(
        *(model, guide, {"y": torch.linspace(-1, 2, 6)}),
        [TraceGraph_ELBO(), ScoreFunction()],
        samples=400,
        progress=False,
    )
    rows = {row.name: row for row in found.rows}
    assert not rows["TraceGraph_ELBO"].biased
    assert rows["TraceGraph_ELBO"].by_parameter["baseline$$$weight"] == 0
    assert rows["TraceGraph_ELBO"].by_parameter["logits"] > 0


def test_rare_draws_are_measured_for_each_estimator(monkeypatch):
    """One of 300 draws is 1 with probability 3e-4: each estimator is tried there, too."""
    seen = []
    monkeypatch.setattr(Moments, "add_rare", lambda self, gradient: seen.append(id(self)))

    def guide(x):
        pyro.sample("b", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(-14.0))))

    def model(x):
        b = pyro.sample("b", dist.Bernoulli(torch.tensor(0.5)))
        pyro.sample("x", dist.Normal(b, 1.0), obs=x[0])

    audit(model, guide, ONE, [ScoreFunction(), LeaveOneOut(2)], samples=300, progress=False)
    assert len(set(seen)) == 2
