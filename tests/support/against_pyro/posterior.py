"""Is the posterior Pyro's: draws against ``Predictive``, log-likelihood draw by draw."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import xarray as xr
from pyro import poutine
from pyro.infer import Predictive, TraceEnum_ELBO
from pyro.poutine.messenger import Messenger
from scipy.stats import norm
from torch import Tensor

from tests.programs import Made, Program
from tests.support.against_pyro import by_hand
from tests.support.against_pyro.by_hand import Values
from tests.support.against_pyro.ranks import rank_sum, spread
from tests.support.against_pyro.trained import ours

DRAWS, REPLAYED = 150, 3
FAMILY_WISE_ERROR = 1e-6  # of all comparisons of one program
Site = dict[str, Any]
NOT_DATA = ("Delta", "Unit", "_Subsample")  # pyro.deterministic, pyro.factor, a plate


class Rows(Messenger):
    """Every plate that draws a subsample takes these rows instead."""

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.index = index

    def _pyro_sample(self, msg) -> None:
        if kind(msg) == "_Subsample" and draws_rows(msg["fn"]):
            msg["value"], msg["done"] = self.index, True


def posterior(program: Program) -> None:
    """Draws and predictions as ``Predictive`` draws them; each log-likelihood replayed by hand."""
    made = by_hand.fresh(program)
    run = ours(program, made)
    tree = run.posterior(DRAWS)
    for module in made.modules:
        module.eval()
    with run.programs[0].scope(), torch.no_grad():
        tests = Draws()
        for rows in blocks(made):
            with handler(rows):
                sites = visited(made)
                tests.compare(tree, made, sites, rows)
                for draw in range(REPLAYED):
                    assert_log_likelihood(tree, made, sites, draw, rows)
        tests.verdict()


def blocks(made: Made) -> Iterator[Tensor | None]:
    """All rows, block by block, of a program that draws a subsample; None for any other."""
    trace = poutine.trace(made.model).get_trace(**made.data)
    plates = [s["fn"] for s in trace.nodes.values() if kind(s) == "_Subsample"]
    sizes = {(p.size, p.subsample_size) for p in plates if draws_rows(p)}
    if not sizes:
        yield None
    for size, part in sizes:
        yield from torch.arange(size).split(part)


def draws_rows(plate: Any) -> bool:
    """Whether a plate's distribution draws fewer rows than there are."""
    return plate.subsample_size is not None and plate.subsample_size < plate.size


def handler(rows: Tensor | None) -> AbstractContextManager:
    return nullcontext() if rows is None else Rows(rows)


def kind(site: Site) -> str:
    """The distribution's class, without masks and event dimensions."""
    fn = site.get("fn")
    while hasattr(fn, "base_dist") and type(fn).__name__ in ("Independent", "MaskedDistribution"):
        fn = fn.base_dist
    return type(fn).__name__


def visited(made: Made) -> dict[str, Site]:
    """The sample sites of the model at one draw of the guide; which of them the guide drew."""
    guide_trace = poutine.trace(made.guide).get_trace(**made.data)
    trace = poutine.trace(poutine.replay(made.model, trace=guide_trace)).get_trace(**made.data)
    sites = {n: s for n, s in trace.nodes.items() if s["type"] == "sample"}
    latent = {n for n, s in guide_trace.nodes.items() if s["type"] == "sample"}
    kept = {n: s for n, s in sites.items() if kind(s) != "_Subsample"}
    return {n: {**s, "latent": n in latent} for n, s in kept.items()}


def is_data(site: Site) -> bool:
    """Observed, and by more than ``pyro.deterministic`` or ``pyro.factor``."""
    return site["is_observed"] and not site["latent"] and kind(site) not in NOT_DATA


def found_in(group: Mapping, name: str, site: Site, rows: Tensor | None) -> np.ndarray:
    """(S, …) what the tree holds of a site, in these rows; of a sequential plate, the site's own.

    Names that a file cannot hold are written otherwise.
    """
    written = name.replace("/", ".") + ("_" if name in ("chain", "draw") else "")
    stem, _, index = name.rpartition("_")
    if written not in group and index.isdigit():
        return group[stem].values[0][:, int(index)]
    values = group[written].values[0]
    thinned = any(f.vectorized and f.size < f.full_size for f in site["cond_indep_stack"])
    inside = rows is not None and thinned
    return values[:, rows.numpy()] if inside else values


class Draws:
    """Rank-sum tests of the place and the spread of every number of every site."""

    def __init__(self) -> None:
        self.z: dict[str, np.ndarray] = {}

    def compare(self, tree: xr.DataTree, made: Made, sites: Mapping, rows: Tensor | None) -> None:
        """Draw by ``Predictive``, and rank the tree's draws among those."""
        free = poutine.uncondition(made.model)
        drawn = Predictive(free, guide=made.guide, num_samples=DRAWS)(**made.data)
        for name, site in sites.items():
            if site["latent"] or is_data(site):
                group = "posterior" if site["latent"] else "posterior_predictive"
                mine = found_in(tree[group], name, site, rows).reshape(DRAWS, -1)
                theirs = drawn[name].reshape(DRAWS, -1).numpy()
                about = f"{group} {name!r}"
                sizes = f"{mine.shape[1]} numbers, not {theirs.shape[1]}"
                assert mine.shape == theirs.shape, f"{about} has {sizes}"
                both = np.concatenate([mine, theirs])
                self.z[f"place of {about} {rows}"] = rank_sum(both)
                self.z[f"spread of {about} {rows}"] = rank_sum(spread(both))

    def verdict(self) -> None:
        """No z beyond what so many tests allow together."""
        critical = norm.isf(FAMILY_WISE_ERROR / (2 * max(1, sum(map(len, self.z.values())))))
        for about, z in self.z.items():
            assert (np.abs(z) <= critical).all(), f"{about} differs, z {np.abs(z).max():.1f}"


def assert_log_likelihood(
    tree: xr.DataTree, made: Made, sites: Mapping, draw: int, rows: Tensor | None
) -> None:
    """The model at this draw alone, its observed sites scored as they are masked."""
    values = {
        n: torch.as_tensor(found_in(tree["posterior"], n, s, rows)[draw]).reshape(s["value"].shape)
        for n, s in sites.items()
        if s["latent"]
    }
    values = {n: v.to(sites[n]["value"]) for n, v in values.items()}
    fixed = poutine.condition(made.model, data=values)
    trace = poutine.trace(fixed).get_trace(**made.data)
    if any(not s["is_observed"] and not s["latent"] for s in sites.values()):
        assert_marginal(tree, made, fixed, values, draw)
        return
    for name, site in sites.items():
        if is_data(site):
            theirs = scored(trace.nodes[name])
            mine = found_in(tree["log_likelihood"], name, site, rows)[draw]
            about = f"log-likelihood of {name!r}"
            assert mine.size == theirs.size, f"{about} has {mine.size} numbers, not {theirs.size}"
            close = np.allclose(mine.reshape(-1), theirs, rtol=1e-9, atol=1e-12)
            assert close, f"{about} differs at draw {draw}"


def scored(site: Site) -> np.ndarray:
    """(…) the log-probability of each datum that no mask hides."""
    log_prob, fn = site["fn"].log_prob(site["value"]), site["fn"]
    seen = torch.ones_like(log_prob, dtype=torch.bool)
    masks = [site["mask"]]
    while hasattr(fn, "base_dist"):
        masks.append(getattr(fn, "_mask", None))
        fn = fn.base_dist
    for mask in masks:
        if mask is not None:
            seen = seen & mask
    return log_prob[seen].numpy()


def assert_marginal(tree: xr.DataTree, made: Made, fixed, values: Values, draw: int) -> None:
    """All data's log-likelihood, what the guide does not draw summed out by Pyro."""
    stacks = [s["cond_indep_stack"] for s in visited(made).values()]
    nesting = max([1, *(-f.dim for stack in stacks for f in stack if f.vectorized)])
    marginal = TraceEnum_ELBO(max_plate_nesting=nesting)
    joint = -marginal.loss(fixed, lambda **columns: None, **made.data)
    trace = poutine.trace(fixed).get_trace(**made.data)
    given = [trace.nodes[name] for name in values]
    prior = sum(float(site["fn"].log_prob(site["value"]).sum()) for site in given)
    group = tree["log_likelihood"].to_dataset()
    found = sum(float(group[n].values[0, draw].sum()) for n in group.data_vars)
    wanted = joint - prior
    assert np.isclose(found, wanted, rtol=1e-9), f"log-likelihood {found:.6g}, not {wanted:.6g}"
