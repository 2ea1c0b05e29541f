"""The model with latents that the guide does not draw summed out, as in ``TraceEnum_ELBO``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from opt_einsum import shared_intermediates
from pyro import poutine
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree
from pyro.ops.rings import LogRing
from pyro.poutine import Trace
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from inference.estimators.programs import StochasticFunction
from inference.results.draws.sites import Site, Sites, padded
from inference.util.sites import sample_sites


def summed_over(model_trace: Trace, guide_trace: Trace) -> set[str]:
    """Names of the latents that the guide does not draw and the model marks ``enumerate``."""
    return {
        name
        for name, site in sample_sites(model_trace).items()
        if not site["is_observed"] and name not in guide_trace and site["infer"].get("enumerate")
    }


def enumerated(
    model: StochasticFunction, guide_trace: Trace, names: Collection[str], rank: int
) -> StochasticFunction:
    """The model's trace at the guide's draws, with the named latents enumerated in parallel.

    Their values are along dimensions to the left of ``rank`` batch dimensions.
    """

    marked = Parallel(names)(poutine.replay(model, trace=guide_trace))
    return EnumMessenger(first_available_dim=-1 - rank)(marked)


class Parallel(Messenger):
    """Marks these sites for parallel enumeration."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            msg["infer"] = {**(msg["infer"] or {}), "enumerate": "parallel"}


def marginals(trace: Trace, batch_rank: int) -> tuple[Sites, set[str]]:
    """(sites after summation, names of the sites that were summed) of an enumerated trace.

    Sites that share enumerated latents become one: log Σ_k p(k) p(x | k) under the name of x (of x
    and y, ``x_y``), conditional on the latents that the guide drew.

    Args:
        trace: of the model, enumerated.
        batch_rank: number of batch dimensions of a single draw.
    """
    trace = prune_subsample_sites(trace)
    trace.compute_log_prob()
    trace.pack_tensors()
    terms = {name: _masked(site) for name, site in sample_sites(trace).items()}
    plates = set(trace.plate_to_symbol.values())
    summed = set("".join(t._pyro_dims for t in terms.values())) - plates
    found: Sites = {}
    taken: set[str] = set()
    for names in _components(terms, summed):
        taken |= set(names)
        observed = [n for n in names if trace.nodes[n]["is_observed"]]
        drawn = [n for n in names if not _is_summed(trace, n) and n not in observed]
        total, ordinal = _contracted(trace, terms, names, summed)
        prior = total.new_zeros(())
        if drawn:  # log p(x, z) − log p(z), both without k
            part, finer = _contracted(trace, terms, [n for n in names if n not in observed], summed)
            prior = _reduced(trace, part, finer - ordinal, _deepest(trace))
            found[_common(drawn)] = _site(trace, "latent", prior, ordinal, batch_rank)
        if observed:
            value = total - prior
            found[_common(observed)] = _site(trace, "observed", value, ordinal, batch_rank)
    return found, taken


def _masked(site: Any) -> Any:
    kept = site["packed"]
    return packed.scale_and_mask(kept["unscaled_log_prob"], mask=kept["mask"])


def _is_summed(trace: Trace, name: str) -> bool:
    return "_enumerate_dim" in trace.nodes[name]["infer"]  # type: ignore[operator]


def _components(terms: Mapping[str, Any], summed: set[str]) -> Iterable[list[str]]:
    """Groups of sites connected by enumerated dimensions, in the program's order."""
    groups: list[tuple[set[str], list[str]]] = []
    for name, term in terms.items():
        dims = set(term._pyro_dims) & summed
        if not dims:
            continue
        names = [name]
        for group in [g for g in groups if g[0] & dims]:
            groups.remove(group)
            dims |= group[0]
            names += group[1]
        groups.append((dims, names))
    order = list(terms)
    return [sorted(names, key=order.index) for _, names in groups]


def _contracted(
    trace: Trace, terms: Mapping[str, Any], names: Iterable[str], summed: set[str]
) -> tuple[Tensor, frozenset[str]]:
    """(log Σ of the product of these terms, unpacked; symbols of the plates that it keeps)."""
    tree: Any = OrderedDict()
    sizes: dict[str, int] = {}
    for name in names:
        term = terms[name]
        frames = trace.nodes[name]["cond_indep_stack"]
        ordinal = frozenset(trace.plate_to_symbol[f.name] for f in frames if f.vectorized)
        tree.setdefault(ordinal, []).append(term)
        sizes |= dict(zip(term._pyro_dims, term.shape, strict=True))
    dims = set(sizes) & summed
    with shared_intermediates() as cache:
        left = contract_tensor_tree(tree, dims, ring=LogRing(cache=cache, dim_to_size=sizes))
    parts = [
        (ordinal, packed.unpack(t, trace.symbol_to_dim)) for ordinal, ts in left.items() for t in ts
    ]
    common = frozenset.intersection(*(ordinal for ordinal, _ in parts))
    total = sum(
        (_reduced(trace, part, ordinal - common, _deepest(trace)) for ordinal, part in parts),
        parts[0][1].new_zeros(()),
    )
    return total, common


def _deepest(trace: Trace) -> int:
    return max([0, *(-d for d in trace.symbol_to_dim.values())])


def _reduced(trace: Trace, term: Tensor, symbols: frozenset[str], rank: int) -> Tensor:
    """The sum over the dimensions of these plates, kept with length 1."""
    gone = [trace.symbol_to_dim[s] for s in symbols]
    term = padded(term, rank) if gone else term
    return term.sum(gone, keepdim=True) if gone else term


def _site(trace: Trace, kind: Any, log_prob: Any, ordinal: frozenset[str], batch_rank: int) -> Site:
    frames = {
        f.name: f
        for site in sample_sites(trace).values()
        for f in site["cond_indep_stack"]
        if f.vectorized
    }
    symbols = {symbol: name for name, symbol in trace.plate_to_symbol.items()}
    inside = [frames[symbols[s]] for s in ordinal]
    plates = {f.dim: (f.name, f.size) for f in inside if -f.dim <= batch_rank}
    while log_prob.dim() > 1 + batch_rank:  # the enumerated dimensions
        log_prob = log_prob.squeeze(0)
    return Site(kind, None, padded(log_prob, 1 + batch_rank), plates=plates)


def _common(names: list[str]) -> str:
    """One name for sites summed together: x; x for x_0, x_1, …; x_y for x and y."""
    stems = {n.rpartition("_")[0] if n.rpartition("_")[2].isdigit() else n for n in names}
    if len(names) == 1:
        return names[0]
    return stems.pop() if len(stems) == 1 else "_".join(names)
