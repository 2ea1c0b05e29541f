"""Evidence by enumeration and active units, by hand."""

import inspect

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import UserError
from inference.engine.program.program import Program
from inference.results.evaluate import (
    active_units,
    exact_evidence,
    importance_weighted_bound,
    khat_of,
)

X = torch.tensor([0.4, -1.2, 2.0, 0.9], dtype=torch.float64)
MEANS = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
SHARES = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


def ready(model, guide):
    def with_a_parameter(x):
        pyro.param("unused", torch.zeros(()))
        guide(x)

    program = Program(model, with_a_parameter)
    with program.scope():
        program.initialise({"x": X}, len(X))
    return program


def mixture(component):
    """k_n ~ Categorical, b_n a bit, x_n ~ N(mean of k + 2 b, 1)."""

    def model(x):
        with pyro.plate("data", len(X), subsample=x):
            k = pyro.sample("k", dist.Categorical(SHARES).expand(x.shape))
            b = pyro.sample("b", dist.Bernoulli(0.4).expand(x.shape))
            pyro.sample("x", dist.Normal(component(k) + 2 * b, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(X), subsample=x):
            pyro.sample("k", dist.Categorical(torch.ones(3)).expand(x.shape))
            pyro.sample("b", dist.Bernoulli(0.5).expand(x.shape))

    return model, guide


def by_hand():
    parts = [
        (SHARES[k] * (0.4 if b else 0.6)).log() + dist.Normal(MEANS[k] + 2 * b, 1.0).log_prob(X)
        for k in range(3)
        for b in (0, 1)
    ]
    return torch.stack(parts).logsumexp(0)


def one_at_a_time(k):
    """Takes no dimension of values: assignments are run one by one, and so are rows."""
    return torch.stack([MEANS[int(i)] for i in k])


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("component", [lambda k: MEANS[k], one_at_a_time], ids=["all", "one"])
def test_evidence_is_the_sum_over_every_value(component, rows):
    program = ready(*mixture(component))
    found = exact_evidence(program, {"x": X}, rows)
    torch.testing.assert_close(found, by_hand(), rtol=1e-12, atol=0)


def test_evidence_needs_discrete_latents_of_the_data_s_plate():
    def normal(x):
        with pyro.plate("data", len(X), subsample=x):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def of_normal(x):
        with pyro.plate("data", len(X), subsample=x):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    def outside(x):
        b = pyro.sample("b", dist.Bernoulli(0.5))
        with pyro.plate("data", len(X), subsample=x):
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def of_outside(x):
        pyro.sample("b", dist.Bernoulli(0.5))

    with pytest.raises(UserError, match="site 'z' is not discrete"):
        exact_evidence(ready(normal, of_normal), {"x": X})
    with pytest.raises(UserError, match="every site within the data's plate"):
        exact_evidence(ready(outside, of_outside), {"x": X})


def units(guide, threshold):
    def model(x):
        with pyro.plate("data", len(X), subsample=x):
            pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    return active_units(ready(model, guide), {"x": X}, threshold)


def test_units_are_active_by_the_variance_of_their_means():
    """Var_x of the means with N − 1; on both sides of a threshold 1 % away."""
    slopes = torch.tensor([1.0, -2.0, 0.0])

    def guide(x):
        with pyro.plate("data", len(X), subsample=x):
            pyro.sample("z", dist.Normal(x[:, None] * slopes + 5, 1.0).to_event(1))

    variance = float(X.var())
    assert units(guide, 0.99 * variance) == {"z": 2}
    assert units(guide, 1.01 * variance) == {"z": 1}
    assert units(guide, 3.99 * variance) == {"z": 1}
    assert units(guide, 4.01 * variance) == {"z": 0}
    assert units(guide, 1e-9) == {"z": 2}


@pytest.mark.parametrize(("slope", "active"), [(1.0, 3), (0.0, 0)])
def test_noise_of_earlier_draws_is_no_activity(slope, active):
    """E[z | x, u] = u: its variance over data is that of E[u | x] = x, not of the draws of u."""

    def guide(x):
        with pyro.plate("data", len(X), subsample=x):
            u = pyro.sample("u", dist.Normal(slope * x, 1.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(u[:, None].expand(-1, 3), 1.0).to_event(1))

    assert units(guide, 0.5)["z"] == active


def test_means_given_noise_are_averaged_not_added():
    """The variance over data of E[u | x] = x / 10 is below the threshold; that of sums is not."""

    def guide(x):
        with pyro.plate("data", len(X), subsample=x):
            u = pyro.sample("u", dist.Normal(x / 10, 0.01), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(u[:, None].expand(-1, 3), 1.0).to_event(1))

    variance = float(X.var()) / 100
    assert units(guide, 1.2 * variance)["z"] == 0
    assert units(guide, 0.8 * variance)["z"] == 3


def test_a_latent_of_all_rows_has_no_active_units():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(X), subsample=x):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(UserError, match="site 'z' is not one of each row"):
        active_units(ready(model, guide), {"x": X})


def test_equal_weights_have_no_tail():
    heavy = dist.Pareto(1.0, 1.0).sample((4000, 1)).log()
    weights = torch.cat([torch.full((4000, 1), 3.0), heavy], 1)
    found = khat_of(weights)
    assert found[0] == 0
    assert abs(found[1] - 1) < 0.5  # of a Pareto's tail of index 1


def test_the_bound_has_as_many_draws_as_its_paper():
    """Burda et al. 2016: 5,000."""
    default = inspect.signature(importance_weighted_bound).parameters["num_samples"].default
    assert default == 5000
