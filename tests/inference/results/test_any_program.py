"""Posterior, predictive and log-likelihood of programs of every kind, against Pyro's slow way."""

import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import Predictive

from inference import UserError, fit
from inference.data.columns import Columns, as_columns
from inference.engine.program.program import Program
from inference.estimators.programs import ordinary
from inference.results import posterior, traces
from inference.results.arviz_versions import arviz
from inference.results.draws.names import writable
from inference.util import rng
from tests.support.ordinary_programs import PROGRAMS, N

DRAWS = 50
ERROR = 1e-4  # the probability that a right program fails, all its comparisons together
SUBSAMPLED = {"subsampling_by_itself", "subsampled_local_latents", "subsampled_features"}
TOGETHER = {  # programs that run with all draws at once, and must stay fast
    "autoregressive_flow",
    "batch_normalisation",
    "correlations",
    "deterministic_values_together",
    "eight_schools_reparameterised",
    "factors",
    "guide_messenger",
    "hidden_markov",
    "imputed",
    "keeps_leading_dimensions",
    "markov_chain",
    "masked_distribution",
    "masked_entries",
    "masked_rows",
    "point_estimate",
    "scaled",
    "sequential_plate",
    "sequential_plate_with_latents",
    "strange_names",
    "subsampled_features",
    "subsampled_local_latents",
    "subsampling_by_itself",
    "transform_reparameterised",
}


class Case:
    """A program, the groups drawn from it, and the same program without subsamples of its own."""

    def __init__(self, name):
        pyro.set_rng_seed(0)
        model, guide, self.data = PROGRAMS[name]()
        self.program = Program(model, guide)
        with self.program.scope():
            self.program.initialise(self.data, N)
        self.model, self.guide = self.program.model, self.program.guide
        if name in SUBSAMPLED:
            self.model, self.guide, _ = PROGRAMS[name](None)
        columns = Columns(self.data)
        self.groups = posterior.posterior_groups(self.program, columns, DRAWS, progress=False)


@pytest.fixture(scope="module")
def cases():
    return {}


@pytest.fixture(params=PROGRAMS)
def name(request):
    return request.param


@pytest.fixture
def case(cases, name):
    if name not in cases:
        cases[name] = Case(name)
    return cases[name]


def values(group, trace, k):
    """Draw k of each latent of a trace of the model, as that trace has it; of those there are."""
    found = {}
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or site["is_observed"]:
            continue
        stem, number = re.fullmatch(r"(.*?)_?(\d*)", name).groups()
        written = next((n for n in (writable(name), f"{name}_") if n in group.data_vars), None)
        if written is not None:
            draw = group[written].to_numpy()[0, k]
        elif stem in group and number:
            draw = group[stem].to_numpy()[0, k, int(number)]
        else:
            continue
        found[name] = torch.as_tensor(draw).reshape(site["value"].shape)
    return found


def mixture(case, given):
    parts = dist.Normal(given["loc"], 0.7).log_prob(case.data["y"][:, None])
    return {"y": torch.logsumexp(parts + given["weights"].log(), 1)}


def hidden_markov(case, given):
    stay, y = given["stay"], case.data["y"]
    move = torch.stack([torch.stack([stay, 1 - stay]), torch.stack([1 - stay, stay])])
    states = torch.log(torch.stack([stay, 1 - stay])).expand(N, 2)  # from state 0
    for t in range(3):
        if t:
            states = torch.logsumexp(states[:, :, None] + move.log(), 1)
        states = states + dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).log_prob(y[:, t, None])
    return {"y": states.logsumexp(1)}


SUMMED = {"mixture": mixture, "hidden_markov": hidden_markov}


def replayed(case, name, k):
    """Log-likelihood of draw k from one run of the model at that draw."""
    with case.program.scope(), case.program.evaluation(), rng.forked(0):
        run = poutine.trace(case.model).get_trace(**case.data)
        given = values(case.groups["posterior"], run, k)
        if name in SUMMED:
            return SUMMED[name](case, given)
        trace = poutine.trace(poutine.condition(case.model, given)).get_trace(**case.data)
    found = {}
    for site_name, site in trace.nodes.items():
        fn = site.get("fn")
        plain = site["type"] == "sample" and type(fn).__name__ not in ("_Subsample", "Unit")
        if not plain or site_name in given or site["infer"].get("_deterministic"):
            continue
        if type(getattr(fn, "base_dist", None)).__name__ == "Delta":  # of a reparam handler
            continue
        log_prob = scale_and_mask(fn.log_prob(site["value"]), mask=site["mask"])
        mask = torch.as_tensor(True if site["mask"] is None else site["mask"])
        if type(fn).__name__ == "MaskedDistribution":
            mask = mask & torch.as_tensor(fn._mask)
        stem = re.sub(r"_?\d+$", "", site_name) if name.startswith("sequential") else site_name
        found.setdefault(stem, []).append(log_prob[mask.expand(log_prob.shape)])
    return {writable(n): torch.cat([p.reshape(-1) for p in parts]) for n, parts in found.items()}


@pytest.mark.parametrize("name", PROGRAMS, indirect=True)
def test_draws_are_taken_together_where_that_is_right(case, name):
    assert ("one_by_one" not in case.groups["posterior"].attrs) == (name in TOGETHER)


@pytest.mark.parametrize("name", PROGRAMS, indirect=True)
def test_log_likelihood_is_that_of_a_run_at_each_draw(case, name):
    scores = case.groups["log_likelihood"]
    for k in (0, DRAWS // 2, DRAWS - 1):
        expected = replayed(case, name, k)
        assert set(scores.data_vars) == expected.keys()
        for variable, value in expected.items():
            found = scores[variable].to_numpy()[0, k].reshape(-1)
            np.testing.assert_allclose(found, value.reshape(-1).numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PROGRAMS, indirect=True)
def test_draws_are_distributed_as_pyro_s(case, name):
    """Means and mean squares of every entry, by z-tests with Bonferroni's correction."""
    pairs = []
    with case.program.scope(), case.program.evaluation(), rng.forked(1):
        free, columns = poutine.uncondition(case.model), case.data
        if name == "deterministic_values":  # which ``uncondition`` would draw, one for each row
            free, columns = case.model, {**case.data, "y": None}
        guide = ordinary(case.guide)
        references = {
            "posterior": Predictive(case.model, guide=guide, num_samples=DRAWS)(**case.data),
            "posterior_predictive": Predictive(free, guide=guide, num_samples=DRAWS)(**columns),
        }
    sequential = name.startswith("sequential")
    for group, reference in references.items():
        for variable, array in case.groups[group].items():
            found = torch.as_tensor(array.to_numpy()[0]).double().reshape(DRAWS, -1)
            names = [
                n
                for n in reference
                if writable(n) in (variable, str(variable).rstrip("_"))
                or (sequential and re.sub(r"_?\d+$", "", n) == variable)
            ]
            parts = [reference[n].double().reshape(DRAWS, -1) for n in names]
            expected = torch.cat(parts, 1)
            assert expected.shape == found.shape, variable
            pairs.append((found, expected.expand_as(found)))
    found, expected = (torch.cat(side, 1) for side in zip(*pairs, strict=True))
    for power in (1, 2):
        a, b = found**power, expected**power
        error = ((a.var(0) + b.var(0)) / DRAWS).sqrt()
        distance = (a.mean(0) - b.mean(0)).abs()
        limit = dist.Normal(0.0, 1.0).icdf(torch.tensor(1 - ERROR / (4 * a.shape[1])))
        assert (distance <= limit * error + 1e-9).all()


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
@pytest.mark.filterwarnings("ignore:The point-wise LOO is the same with the sum LOO")  # one datum
@pytest.mark.filterwarnings("ignore:The default method used to estimate")
@pytest.mark.parametrize("name", PROGRAMS, indirect=True)
def test_arviz_reads_the_file_and_cross_validates(case, name, tmp_path):
    traces.write_trace(xr.DataTree.from_dict(case.groups), tmp_path / "trace.nc")
    az = arviz()
    tree = az.from_netcdf(tmp_path / "trace.nc")
    for variable, array in case.groups["log_likelihood"].items():
        loo = az.loo(tree, var_name=variable, pointwise=True)
        assert loo.n_data_points == array.size // DRAWS
        assert np.isfinite(loo.elpd if hasattr(loo, "elpd") else loo.elpd_loo)


def test_names_that_no_file_can_hold_are_mapped_before_training_and_said(tmp_path):
    model, guide, data = PROGRAMS["strange_names"]()
    with pytest.warns(UserWarning, match="the trace holds .*'enc/z' as 'enc.z'"):
        run = fit(
            model,
            guide,
            data,
            steps=2,
            precision="float64",
            progress=False,
            directory=tmp_path / "run",
        )
    run.posterior(5, progress=False)
    assert {"enc.z", "draw_"} <= set(traces.read_trace(tmp_path / "run")["posterior"].data_vars)


def test_a_column_that_is_missing_is_predicted():
    model, guide, data = PROGRAMS["module_with_priors"]()
    run = fit(model, guide, data, steps=2, precision="float64", progress=False)
    run.posterior(5, progress=False)
    tree = run.posterior(5, {"x": data["x"][:3]}, progress=False)
    assert tree["posterior_predictive"]["y"].sizes["data"] == 3
    assert not {"log_likelihood", "observed_data"} & set(tree.children)


def test_nothing_of_the_program_or_of_the_noise_is_touched():
    case = Case("batch_normalisation")
    program, before = case.program, torch.get_rng_state()
    buffers = {name: b.clone() for name, b in program.buffers()}
    stored = dict(program.store["params"])
    training = [part.training for _, m in program.modules() for part in m.modules()]
    posterior.posterior_groups(program, Columns(case.data), 5, progress=False)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(buffers[name], b) for name, b in program.buffers())
    assert buffers
    assert all(program.store["params"][n] is p for n, p in stored.items())
    assert program.store["params"].keys() == stored.keys()
    assert training == [part.training for _, m in program.modules() for part in m.modules()]


def test_assignments_are_drawn_on_request():
    case = Case("mixture")
    groups = posterior.posterior_groups(
        case.program, Columns(case.data), 5, assign=True, progress=False
    )
    k = groups["posterior"]["k"]
    assert k.sizes == {"chain": 1, "draw": 5, "data": N}
    assert set(np.unique(k)) <= {0, 1}


def test_data_that_are_no_columns_are_refused():
    with pytest.raises(UserError, match="a TensorDataset's tensors have no names"):
        as_columns(torch.utils.data.TensorDataset(torch.zeros(3)))
