"""Importance weights, bounds, k-hat and ArviZ groups against closed forms."""

import math
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import config_enumerate
from pyro.infer.autoguide import AutoNormal

from inference import fit
from inference.data.columns import Columns
from inference.engine.program.program import Program
from inference.results import evaluate
from inference.results.arviz_versions import arviz
from inference.results.draws import sampler
from inference.results.draws.sampler import Sampler, isolated
from tests.support.examples import exact_local_guide, global_only, local


def ready(model, guide, data):
    program = Program(model, guide)
    with program.scope():
        program.initialise(data, len(data["x"]))
    return program


def exact_local(x, m=0.3):
    return dist.Normal(m, math.sqrt(2)).log_prob(x)


def test_weights_of_the_exact_posterior_are_the_evidence():
    model, _, data = local()
    program = ready(model, exact_local_guide(40), data)
    weights = evaluate.log_weights(program, data, 7)
    assert torch.allclose(weights, exact_local(data["x"]).expand(7, 40), atol=1e-12)


def test_weights_ignore_the_scale_of_a_subsample():
    model, _, data = local()
    program = ready(model, exact_local_guide(40), data)
    part = {"x": data["x"][:5]}
    weights = evaluate.log_weights(program, part, 2)
    assert torch.allclose(weights, exact_local(part["x"]).expand(2, 5), atol=1e-12)


def test_bound_grows_from_the_elbo_to_the_evidence():
    model, guide, data = local(200)
    program = ready(model, guide, data)
    bounds = [
        evaluate.importance_weighted_bound(program, data, k, progress=False) for k in (1, 10, 5000)
    ]
    exact = exact_local(data["x"])
    kl = torch.distributions.kl_divergence(
        dist.Normal(0.1 * data["x"] + 0.2, 0.8), dist.Normal(0.5 * data["x"] + 0.15, 0.5**0.5)
    )
    noise = bounds[0] - (exact - kl)
    assert abs(noise.mean()) < 4 * noise.std() / 200**0.5
    assert bounds[0].mean() < bounds[1].mean() < bounds[2].mean()
    assert torch.allclose(bounds[2].mean(), exact.mean(), atol=0.01)
    assert kl.mean() > 0.2  # the ELBO alone would fail the line above


def test_chunks_do_not_change_the_bound(monkeypatch):
    model, _, data = local()
    program = ready(model, exact_local_guide(40), data)
    whole = evaluate.importance_weighted_bound(program, data, 100, progress=False)
    monkeypatch.setattr(sampler, "CHUNK_ELEMENTS", 40 * 7)
    assert torch.allclose(
        whole, evaluate.importance_weighted_bound(program, data, 100, progress=False), atol=1e-12
    )


def test_bound_of_a_global_latent_is_the_whole_data_s():
    model, _, data = global_only(10)
    n, total = 10, data["x"].sum()

    def posterior(x):
        loc = pyro.param("loc", total / (n + 1))
        pyro.sample("w", dist.Normal(loc, (n + 1) ** -0.5))

    bound = evaluate.importance_weighted_bound(
        ready(model, posterior, data), data, 3, progress=False
    )
    covariance = torch.eye(n) + torch.ones(n, n)
    exact = dist.MultivariateNormal(torch.zeros(n), covariance).log_prob(data["x"])
    assert bound.shape == (1,)
    assert torch.allclose(bound, exact, atol=1e-10)


def test_an_observation_of_nobody_enters_the_bound_once():
    data = {"x": torch.randn(6)}

    def model(x):
        pyro.sample("late", dist.Normal(0.0, 1.0), obs=torch.tensor(1.5))
        with pyro.plate("data", 6, subsample=x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def posterior(x):
        a = pyro.param("a", torch.tensor(0.5))
        with pyro.plate("data", 6, subsample=x):
            pyro.sample("z", dist.Normal(a * x, 0.5**0.5))

    program = ready(model, posterior, data)
    bound = evaluate.importance_weighted_bound(program, data, 3, progress=False)
    exact = exact_local(data["x"], 0.0).sum() + dist.Normal(0.0, 1.0).log_prob(torch.tensor(1.5))
    assert torch.allclose(bound, exact[None], atol=1e-12)


def test_khat_tells_a_wide_guide_from_a_narrow_one():
    model, _, data = local()
    from tests.support.examples import LocalGuide

    wide = ready(model, LocalGuide(40, a=0.5, b=0.15, s=1.0), data)
    narrow = ready(model, LocalGuide(40, a=0.5, b=0.15, s=0.2), data)
    assert evaluate.khat(wide, data).median() < 0.5
    assert evaluate.khat(narrow, data).median() > 0.7


def test_active_units_counts_those_that_move():
    x = torch.randn(500, 3)

    def model(x):
        with pyro.plate("data", 500, subsample=x):
            pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    def guide(x):
        scale = pyro.param("scale", torch.ones(()), constraint=dist.constraints.positive)
        with pyro.plate("data", 500, subsample=x):
            mean = x * torch.tensor([1.0, 0.2, 0.05])  # variances 1, 0.04 and 0.0025
            pyro.sample("z", dist.Normal(mean, scale).to_event(1))

    assert evaluate.active_units(ready(model, guide, {"x": x}), {"x": x}) == {"z": 2}


def test_latents_that_the_model_sums_over_are_summed_over_in_the_weights():
    _, guide, data = global_only()

    @config_enumerate
    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 40, subsample=x):
            k = pyro.sample("k", dist.Bernoulli(0.3))
            pyro.sample("x", dist.Normal(w + k, 1.0), obs=x)

    program = ready(model, guide, data)
    with isolated(program):
        taken = Sampler(program)
        (draws,) = taken.draw(data, 6)
    assert taken.reason is None
    w = draws.guide["w"].value
    mixture = dist.MixtureSameFamily(
        dist.Categorical(torch.tensor([0.7, 0.3])),
        dist.Normal(w[..., None] + torch.tensor([0.0, 1.0]), 1.0),
    )
    expected = mixture.log_prob(data["x"]).sum(1) + dist.Normal(0.0, 1.0).log_prob(w[:, 0])
    expected = expected - dist.Normal(0.5, 0.4).log_prob(w[:, 0])
    assert torch.allclose(evaluate.weights_of(draws, None)[:, 0], expected, atol=1e-12)


def regression(size=60):
    x = torch.randn(size, 2)
    y = x @ torch.tensor([1.0, -1.0]) + 0.5 * torch.randn(size)

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", size, subsample=x):
            pyro.sample("y", dist.Normal((w * x).sum(-1), 0.5), obs=y)

    return model, AutoNormal(model), {"x": x, "y": y}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    pyro.set_rng_seed(0)
    directory = tmp_path_factory.mktemp("run")
    optimizer = partial(torch.optim.Adam, lr=0.02)
    model, guide, data = regression()
    run = fit(
        model, guide, data, optimizer=optimizer, steps=800, directory=directory, progress=False
    )
    run.posterior(400)
    return run


def test_groups_have_arviz_s_dims_and_draws_of_the_posterior(fitted):
    tree = fitted.trace
    assert tree["posterior"]["w"].dims == ("chain", "draw", "w_dim_0")
    assert tree["log_likelihood"]["y"].sizes == {"chain": 1, "draw": 400, "data": 60}
    assert tree["posterior_predictive"]["y"].sizes == {"chain": 1, "draw": 400, "data": 60}
    assert "not MCMC" in tree["posterior"].attrs["sampling"]
    w = tree["posterior"]["w"].to_numpy()[0]
    x, y = (fitted.data.tensors[n].numpy() for n in "xy")
    expected = -0.5 * ((y - w @ x.T) / 0.5) ** 2 - math.log(0.5 * (2 * math.pi) ** 0.5)
    assert abs(tree["log_likelihood"]["y"].to_numpy()[0] - expected).max() < 1e-4
    exact = np.linalg.solve(np.eye(2) + 4 * x.T @ x, 4 * x.T @ y)
    assert abs(w.mean(0) - exact).max() < 0.03


@pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")
def test_arviz_reads_summarises_plots_and_cross_validates(fitted):
    import matplotlib

    matplotlib.use("Agg")
    az = arviz()
    tree = az.from_netcdf(fitted.directory / "trace.nc")
    assert list(az.summary(tree)["mean"].index) == ["w[0]", "w[1]"]
    assert int((az.loo(tree, pointwise=True).pareto_k > 0.7).sum()) == 0
    az.plot_trace(tree)
    (az.plot_ppc if hasattr(az, "plot_ppc") else az.plot_ppc_dist)(tree)
    import matplotlib.pyplot as plt

    plt.close("all")


def test_local_draws_carry_the_plate():
    model, guide, data = local(12)
    run = fit(model, guide, data, steps=2, progress=False, precision="float64")
    tree = run.posterior(30, Columns({"x": data["x"][:5]}))
    assert tree["posterior"]["z"].sizes == {"chain": 1, "draw": 30, "data": 5}
    assert tree["guide"]["khat"].dims == ("data",)
    draws = tree["posterior"].sizes["draw"]
    assert tree["guide"]["khat"].attrs["threshold"] == evaluate.khat_threshold(draws)
    assert tree["observed_data"]["x"].sizes == {"data": 5}
