"""fit: the same ELBO as Pyro's, scaled, scheduled, clipped, stopped and refused correctly."""

import copy
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import (
    SVI,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from pyro.infer.autoguide import AutoNormal

from guides.amortized import AmortizedGaussian
from inference import Columns, Streamed, UserError, fit
from inference.data.columns import epoch_order
from inference.engine.training.schedules import warm_up
from ppl_models.likelihoods import Bernoulli
from ppl_models.networks import image_decoder, image_encoder
from ppl_models.vae import VAE
from tests.support.examples import PROGRAMS, global_only, local

SGD = partial(torch.optim.SGD, lr=0.0)
quiet = partial(fit, progress=False, precision="float64")


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("batch_size", [10, None])
def test_reported_elbo_is_pyros_to_1e_12(name, batch_size):
    model, guide, data = PROGRAMS[name]()
    run = quiet(model, guide, data, optimizer=SGD, steps=6, batch_size=batch_size)
    size = len(data["x"])
    pyro.set_rng_seed(0)
    expected = []
    for step in range(6):
        order = epoch_order(size, batch_size, 0, step // 4 if batch_size else step)
        index = order[step % len(order)]
        batch = data["x"] if index is None else data["x"][index]
        expected.append(-Trace_ELBO().loss(model, guide, batch) / size)
    got = torch.tensor(run.trace["svi"]["elbo"].to_numpy()[0])
    assert torch.allclose(got, torch.tensor(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO])
def test_steps_follow_pyros_svi(estimator):
    """SGD per datum with rate N·lr is Pyro's SGD on the sum with rate lr, step by step."""
    model, guide, data = local()
    theirs = copy.deepcopy((model, guide))
    rate, size = 1e-4, len(data["x"])
    optimizer = partial(torch.optim.SGD, lr=rate * size)
    quiet(model, guide, data, estimator(), optimizer, steps=5)
    pyro.set_rng_seed(0)
    svi = SVI(*theirs, pyro.optim.SGD({"lr": rate}), estimator())
    for _ in range(5):
        svi.step(data["x"])
    for mine, other in zip(guide.parameters(), theirs[1].parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-12)
    assert not torch.equal(guide.a, torch.tensor(0.1))


@pytest.mark.parametrize(
    "name", [n if n == "both" else pytest.param(n, marks=pytest.mark.slow) for n in PROGRAMS]
)
def test_minibatch_elbo_is_unbiased(name):
    """Over all batches of an epoch, the mean is the whole data's; z-test at 4 standard errors."""
    model, guide, data = PROGRAMS[name]()
    full = quiet(model, guide, data, optimizer=SGD, steps=1000)
    mini = quiet(model, guide, data, optimizer=SGD, steps=1000, batch_size=8, seeds=[1])
    a, b = (r.trace["svi"]["elbo"].to_numpy()[0] for r in (full, mini))
    error = (a.var() / len(a) + b.var() / len(b)) ** 0.5
    assert abs(a.mean() - b.mean()) < 4 * error
    assert 4 * error < 0.2 * abs(a.mean())  # an unscaled batch (a factor of 5) is far outside


def test_terms_add_up_to_the_elbo():
    model, guide, data = PROGRAMS["both"]()
    run = quiet(model, guide, data, Trace_ELBO(num_particles=3), steps=20, batch_size=10)
    svi = run.trace["svi"].to_dataset()
    total = svi["log_likelihood_x"] - svi["kl_w"] - svi["kl_z"]
    assert abs(total - svi["elbo"]).max() < 1e-10


def test_analytic_kl_has_no_sampled_terms():
    run = quiet(*local(), TraceMeanField_ELBO(), steps=2)
    assert not [name for name in run.trace["svi"] if str(name).startswith("kl")]


def test_annealed_fit_records_the_elbo_itself():
    model, guide, data = local()
    run = quiet(model, guide, data, optimizer=SGD, steps=8, anneal=warm_up(0.5))
    plain = quiet(model, guide, data, optimizer=SGD, steps=8)
    a, b = (r.trace["svi"].to_dataset() for r in (run, plain))
    assert abs(a["elbo"] - b["elbo"]).max() < 1e-9
    assert abs(a["kl_z"] - b["kl_z"]).max() < 1e-9
    assert a["beta"].to_numpy()[0].tolist() == [1e-4, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert abs(a["grad_norm"] - b["grad_norm"])[0, :4].min() > 1e-3


def test_clipping_bounds_the_global_norm():
    model, guide, data = local()
    before = [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]
    optimizer = partial(torch.optim.SGD, lr=1.0)
    run = quiet(model, guide, data, optimizer=optimizer, steps=1, clip_norm=0.01)
    after = [*model.parameters(), *guide.parameters()]
    moved = torch.stack([(a - b).norm() for a, b in zip(after, before, strict=True)]).norm()
    assert run.trace["svi"]["grad_norm"].item() > 0.1
    assert moved.item() == pytest.approx(0.01, rel=1e-4)


def test_finds_the_exact_posterior_of_a_global():
    model, guide, data = global_only()
    optimizer = pyro.optim.Adam({"lr": 0.02})
    run = quiet(model, guide, data, optimizer=optimizer, steps=1500, schedule=lambda t: 1 - t)
    n, total = len(data["x"]), float(data["x"].sum())
    assert float(run.params["loc"]) == pytest.approx(total / (n + 1), abs=0.01)
    assert float(run.params["scale"]) == pytest.approx((n + 1) ** -0.5, rel=0.05)


def test_parameter_store_of_the_caller_is_left_alone():
    pyro.param("loc", torch.tensor(7.0))
    quiet(*global_only(), steps=3)
    assert list(pyro.get_param_store()) == ["loc"]
    assert pyro.param("loc").item() == 7.0


def test_random_state_of_the_caller_is_left_alone():
    program = local()
    state = torch.get_rng_state()
    quiet(*program, steps=3)
    assert torch.equal(state, torch.get_rng_state())


def test_seeds_differ_and_repeat():
    model, guide, data = global_only()
    one = quiet(model, guide, data, steps=5, seeds=2).trace["svi"]["elbo"].to_numpy()
    two = quiet(model, guide, data, steps=5, seeds=[1]).trace["svi"]["elbo"].to_numpy()
    assert (one[1] == two[0]).all()
    assert (one[0] != one[1]).all()


def test_autoguides_are_copied_for_further_seeds():
    model, _, data = global_only()
    run = quiet(model, AutoNormal(model), data, steps=5, seeds=3)
    assert run.trace["svi"].sizes == {"seed": 3, "step": 5}


class Rows(torch.utils.data.Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i]}


def test_streamed_data_give_the_resident_data_s_trace():
    model, guide, data = global_only()
    resident = quiet(model, guide, data, epochs=2, batch_size=16)
    streamed = quiet(model, guide, Streamed(Rows(data["x"])), epochs=2, batch_size=16)
    a, b = (r.trace["svi"]["elbo"].to_numpy() for r in (resident, streamed))
    assert (a == b).all()
    assert resident.trace["svi"]["examples"].to_numpy()[0].tolist() == [16, 32, 40, 56, 72, 80]


def test_stops_when_the_held_out_bound_does_not_improve():
    model, guide, data = local()
    valid = {"x": torch.randn(64) * 1.5 + 1}
    optimizer = partial(torch.optim.Adam, lr=0.05)
    run = quiet(model, guide, data, optimizer=optimizer, epochs=500, valid=valid, patience=5)
    taken = run.trace["svi"].sizes["step"]
    assert 5 < taken < 500
    held_out = run.trace["held_out"].to_dataset()
    assert held_out.sizes["step"] == taken
    assert float(held_out["elbo_error"].min()) > 0


def test_nan_names_the_site_where_it_was_born():
    _, guide, data = local()

    def broken(x):
        with pyro.plate("data", 40, subsample=x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Delta(z * float("inf") - z * float("inf")), obs=x)

    with pytest.raises(UserError, match=r"log-probability of site 'x' in the model"):
        quiet(broken, guide, data, steps=1)


def test_infinite_gradient_names_its_site():
    def model(x):
        w = pyro.param("w", torch.tensor(0.0))
        pyro.sample("z", dist.Normal(torch.sqrt(w), 1.0))
        with pyro.plate("data", 4, subsample=x):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(1.0)), 1.0))

    with pytest.raises(UserError, match=r"gradient of site 'z'.*in the model"):
        quiet(model, guide, {"x": torch.zeros(4)}, steps=1)


def unscaled_global(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(w, 1.0), obs=x)


def wrong_size(x):
    pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 99, subsample=x):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def no_plate(x):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(w, 1.0).expand([len(x)]).to_event(1), obs=x)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (unscaled_global, "site 'w' lies outside plate 'data'"),
        (wrong_size, "plate 'data' has size 99, but the data have 40 rows"),
        (no_plate, "no plate runs over the batch's 10 rows"),
        (lambda y: None, r"arguments are \(y\) but the data's columns are \['x'\]"),
    ],
)
def test_programs_that_do_not_fit_the_data_are_refused(model, sentence):
    _, guide, data = global_only()
    with pytest.raises(UserError, match=sentence):
        quiet(model, guide, data, steps=1, batch_size=10)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "either epochs or steps"),
        ({"steps": 1, "epochs": 1}, "either epochs or steps"),
        ({"steps": 1, "batch_size": 0}, "batch_size is 0"),
        ({"steps": 1, "batch_size": 41}, "batch_size is 41, but the data have 40 rows"),
        ({"steps": 1, "patience": 3}, "give valid data"),
        ({"steps": 1, "precision": "half"}, "precision 'half' is not one of"),
        ({"steps": 1, "valid": {"y": torch.zeros(3)}}, "held-out data lack column 'x'"),
    ],
)
def test_options_that_contradict_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        fit(*global_only(), progress=False, **options)


def test_sites_that_model_and_guide_do_not_share_are_named():
    model, _, data = global_only()

    def misspelt(x):
        pyro.sample("v", dist.Normal(pyro.param("a", torch.tensor(0.0)), 1.0))

    def forgetful(x):
        pyro.param("a", torch.tensor(0.0))

    with pytest.raises(UserError, match="site 'v' of the guide is not in the model"):
        quiet(model, misspelt, data, steps=1)
    with pytest.raises(UserError, match="latent site 'w' of the model is not in the guide"):
        quiet(model, forgetful, data, steps=1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_data_are_named(bad):
    model, guide, data = global_only()
    data["x"][7] = bad
    with pytest.raises(UserError, match=r"column 'x' holds 1 NaN or infinite.*row 7"):
        quiet(model, guide, data, steps=1)


def test_enumerated_programs_train():
    x = torch.cat([torch.randn(30) - 3, torch.randn(30) + 3])

    @pyro.infer.config_enumerate
    def model(x):
        loc = pyro.param("loc", torch.tensor([-1.0, 1.0]))
        with pyro.plate("data", 60, subsample=x):
            k = pyro.sample("k", dist.Categorical(torch.ones(2) / 2))
            pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x)

    def guide(x):
        pass

    estimator = TraceEnum_ELBO(max_plate_nesting=1)
    optimizer = partial(torch.optim.Adam, lr=0.1)
    run = quiet(model, guide, {"x": x}, estimator, optimizer, steps=200)
    assert torch.allclose(run.params["loc"], torch.tensor([-3.0, 3.0]), atol=0.5)


def test_a_module_shared_by_seeds_is_refused():
    net = torch.nn.Linear(1, 1)

    def model(x):
        pyro.module("net", net)
        pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 40, subsample=x):
            pyro.sample("x", dist.Normal(net(x[:, None])[:, 0], 1.0), obs=x)

    _, guide, data = global_only()
    with pytest.raises(UserError, match="cannot have its own"):
        quiet(model, guide, data, steps=2, seeds=2)


def test_bf16_mixed_rounds_the_networks_and_keeps_the_parameters():
    x = torch.rand(64, 1, 4, 4)
    bounds = {}
    for precision in ("float32", "bf16-mixed"):
        pyro.set_rng_seed(0)
        model = VAE(image_decoder((1, 4, 4), (8,), 2, torch.nn.ReLU), Bernoulli(), 2, size=64)
        guide = AmortizedGaussian(image_encoder((1, 4, 4), (8,), 4, torch.nn.ReLU), size=64)
        run = fit(model, guide, {"x": x}, steps=20, precision=precision, progress=False)
        bounds[precision] = run.trace["svi"]["elbo"].to_numpy()[0]
        assert {p.dtype for p in run.params.values()} == {torch.float32}
    gaps = abs(bounds["float32"] / bounds["bf16-mixed"] - 1)
    assert 0 < gaps.max() < 0.02


@pytest.mark.gpu
def test_cuda_fits_the_same_posterior():
    model, guide, data = local()
    run = quiet(model, guide, data, steps=300, device="cuda")
    assert run.trace["svi"]["elbo"].to_numpy()[0, -50:].mean() > -3
    assert guide.a.device.type == "cuda"


def test_looks_before_the_first_step_draw_nothing():
    """The first batch's transform draws the seed's first number."""
    model, guide, data = local()
    drawn = []

    def noting(batch):
        drawn.append(torch.rand(()))
        return batch

    quiet(model, guide, Columns(data, noting), steps=1, seeds=[3], batch_size=20)
    pyro.set_rng_seed(3)
    assert drawn[-1] == torch.rand(())


@pytest.mark.parametrize("estimator", [None, Trace_ELBO(), TraceGraph_ELBO()])
def test_a_latent_to_be_summed_out_is_not_drawn_from_the_prior_instead(estimator):
    @config_enumerate
    def model(x):
        loc = pyro.param("loc", torch.tensor([0.0, 4.0]))
        with pyro.plate("data", 3):
            k = pyro.sample("k", dist.Categorical(torch.ones(2)))
            pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x)

    def trained(estimator):
        x = {"x": torch.tensor([0.1, 3.0, -1.0])}
        return fit(model, lambda x: None, x, estimator, steps=1, progress=False)

    with pytest.raises(
        UserError, match=r"'k' .* summed out, .*TraceEnum_ELBO\(max_plate_nesting=1"
    ):
        trained(estimator)
    trained(TraceEnum_ELBO(max_plate_nesting=1))
