"""Is the posterior Pyro's: draws against ``Predictive``, log-likelihood draw by draw."""

import numpy as np
import pyro
import torch
import xarray as xr
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import Predictive, TraceEnum_ELBO
from scipy.stats import norm, rankdata
from torch import Tensor

from tests.programs import Made, Program
from tests.support.against_pyro import by_hand
from tests.support.against_pyro.by_hand import Values
from tests.support.against_pyro.trained import ours

DRAWS, REPLAYED = 150, 3
FAMILY_WISE_ERROR = 1e-6  # of all comparisons of one program


def posterior(program: Program) -> None:
    """Draws and predictions as ``Predictive`` draws them; each log-likelihood replayed by hand."""
    made = by_hand.fresh(program)
    run = ours(program, made)
    tree = run.posterior(DRAWS)
    for module in made.modules:
        module.eval()
    with run.programs[0].scope(), torch.no_grad():
        sites = visited(made)
        assert_draws(tree, made, sites)
        for draw in range(REPLAYED):
            assert_log_likelihood(tree, made, sites, draw)


def visited(made: Made) -> dict[str, dict]:
    """The sample sites of the model at one draw of the guide."""
    guide_trace = poutine.trace(made.guide).get_trace(**made.data)
    trace = poutine.trace(poutine.replay(made.model, trace=guide_trace)).get_trace(**made.data)
    trace.compute_log_prob()
    return {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and not is_plate(s)} | {
        n: {**s, "guide": True} for n, s in guide_trace.nodes.items() if n in trace.nodes and s["type"] == "sample" and not is_plate(s)
    }


def is_plate(site) -> bool:
    return type(site["fn"]).__name__ == "_Subsample"


def is_latent(site) -> bool:
    return bool(site.get("guide"))


def is_data(site) -> bool:
    """Observed, and by more than ``pyro.deterministic`` or ``pyro.factor``."""
    return site["is_observed"] and not site["infer"].get("_deterministic") and type(site["fn"]).__name__ not in ("Unit", "Delta")


def assert_draws(tree: xr.DataTree, made: Made, sites: dict) -> None:
    """Rank-sum tests of the places and of the spreads of every number of every site."""
    free = poutine.uncondition(made.model)
    drawn = Predictive(free, guide=made.guide, num_samples=DRAWS)(**made.data)
    pairs = {}
    for name, site in sites.items():
        group = "posterior" if is_latent(site) else "posterior_predictive"
        if is_latent(site) or is_data(site):
            found = tree[group][name].values[0].reshape(DRAWS, -1)
            theirs = drawn[name].reshape(DRAWS, -1).numpy()
            assert found.shape == theirs.shape, f"{group} {name!r} has {found.shape} numbers, not {theirs.shape}"
            pairs[f"{group} {name!r}"] = found, theirs
    tests = 2 * sum(found.shape[1] for found, _ in pairs.values())
    for name, (found, theirs) in pairs.items():
        for what, score in (("place", lambda v: v), ("spread", spread)):
            z = rank_sum(score(np.concatenate([found, theirs])))
            critical = norm.isf(FAMILY_WISE_ERROR / (2 * max(tests, 1)))
            assert (np.abs(z) <= critical).all(), f"{name}: {what} differs, z {np.abs(z).max():.1f}"


def spread(both: np.ndarray) -> np.ndarray:
    """(2 S, P) distances from the median of all draws together: exchangeable, as the draws are."""
    return np.abs(both - np.median(both, axis=0))


def rank_sum(both: np.ndarray) -> np.ndarray:
    """(P,) z of the first half's ranks among all (2 S, P), ties shared; 0 where all are tied."""
    grain = np.abs(both).max(axis=0, keepdims=True) * 1e-9 + 1e-300
    ranks = rankdata(np.round(both / grain), axis=0)
    half = len(both) // 2
    deviation = ranks.std(axis=0, ddof=1) * np.sqrt(half / 2)
    gap = ranks[:half].sum(axis=0) - half * (len(both) + 1) / 2
    return np.divide(gap, deviation, out=np.zeros_like(gap), where=deviation > 0)


def assert_log_likelihood(tree: xr.DataTree, made: Made, sites: dict, draw: int) -> None:
    """The model at this draw alone, its observed sites scored as they are masked."""
    latents = {n: s for n, s in sites.items() if is_latent(s)}
    values = {n: kept(tree, n, s["value"], draw) for n, s in latents.items()}
    fixed = poutine.condition(made.model, data=values)
    trace = poutine.trace(fixed).get_trace(**made.data)
    if any(not s["is_observed"] and n not in latents and not is_plate(s) for n, s in trace.nodes.items() if s["type"] == "sample"):
        return assert_marginal(tree, made, values, draw)
    for name, site in sites.items():
        if is_data(site) and not is_latent(site):
            node = trace.nodes[name]
            log_prob = scale_and_mask(node["fn"].log_prob(node["value"]), mask=node["mask"])
            found = tree["log_likelihood"][name].values[0, draw]
            assert found.size == log_prob.numel(), f"log-likelihood of {name!r} has {found.size} numbers, not {log_prob.numel()}"
            close = np.allclose(found.reshape(-1), log_prob.reshape(-1).numpy(), rtol=1e-9, atol=1e-12)
            assert close, f"log-likelihood of {name!r} differs at draw {draw}"


def kept(tree: xr.DataTree, name: str, like: Tensor, draw: int) -> Tensor:
    """A draw of the tree in the shape that the program gives it."""
    return torch.as_tensor(tree["posterior"][name].values[0, draw]).reshape(like.shape).to(like)


def assert_marginal(tree: xr.DataTree, made: Made, values: Values, draw: int) -> None:
    """All data's log-likelihood, what the guide does not draw summed out by Pyro."""
    nesting = max([1, *(-f.dim for s in visited(made).values() for f in s["cond_indep_stack"] if f.vectorized)])
    fixed = poutine.condition(made.model, data=values)
    joint = -TraceEnum_ELBO(max_plate_nesting=nesting).loss(fixed, lambda **columns: None, **made.data)
    trace = poutine.trace(fixed).get_trace(**made.data)
    prior = sum(float(trace.nodes[n]["fn"].log_prob(trace.nodes[n]["value"]).sum()) for n in values)
    group = tree["log_likelihood"].to_dataset()
    found = sum(float(group[n].values[0, draw].sum()) for n in group.data_vars)
    assert np.isclose(found, joint - prior, rtol=1e-9), f"log-likelihood {found:.6g}, not {joint - prior:.6g}"
