"""Exact expectations by enumeration, and the z-test of per-sample gradients against them."""

import math
from statistics import NormalDist

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from inference.estimators import Exact
from inference.estimators.exact import Enumerate, all_values, hermite, values_in
from inference.estimators.ledger import all_dims
from inference.estimators.programs import ModelAndGuide
from inference.util.sites import distribution_name, sample_sites

FAMILY_WISE_ERROR = 1e-4
POWER = 0.95
CHUNK = 10_000


def flat(leaves, gradients):
    """(R, P) gradients of all parameters side by side, zeros where there is none."""
    filled = [
        torch.zeros_like(leaf) if g is None else g
        for leaf, g in zip(leaves.values(), gradients, strict=True)
    ]
    return torch.cat([g.reshape(len(g), -1) for g in filled], 1)


def per_sample(case, estimator, replicates):
    """(R, P) independent gradients of the loss, and the (R-summed) loss / R."""
    model, guide, leaves = case.programs(replicates)
    loss = estimator.differentiable_loss(model, guide)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return flat(leaves, gradients), float(loss.detach()) / replicates


def exact(case):
    """(P,) gradient of −ELBO, and −ELBO."""
    gradient, loss = per_sample(case, Exact(max_plate_nesting=case.nesting + 1), 1)
    return gradient[0], loss


def tables(case):
    """(log w, log p, log q, weight) of every joint value, (S, units …), and the leaves.

    For programs whose latents are all in the same plates.
    """
    model, guide, leaves = case.programs(1)
    rank = case.nesting + 1
    table = Enumerate(rank, 20)
    programs = ModelAndGuide(model, guide, (), {}, rank)
    with table:
        guide_trace = programs.score(guide)
    model_trace = programs.score(poutine.replay(model, trace=guide_trace))
    latent = [s for s in sample_sites(guide_trace).values()]
    shared = set.intersection(*(set(all_dims(s)) for s in latent))
    log_p, log_q = (
        _joint(list(sample_sites(t).values()), shared, rank) for t in (model_trace, guide_trace)
    )
    mass = sum(axis.log_weight for axis in values_in(guide_trace).values())
    parts = torch.broadcast_tensors(log_p, log_q, mass)
    joint = [part.reshape(-1, *part.shape[part.dim() - rank :]) for part in parts]
    return joint[0], joint[1], joint[2], leaves


def _joint(sites, shared, rank):
    total = torch.zeros(())
    for site in sites:
        gone = [d for n, d in all_dims(site).items() if n not in shared]
        value = site["log_prob"]
        total = total + (value.sum(gone, keepdim=True) if gone else value)
    return total


class Configure(Messenger):
    """Gives replicate s the s-th of all joint values of all elements of all latents.

    Attributes:
        mass: (S,) log-probability of each under the guide.
    """

    def __init__(self, guide_trace, nodes):
        super().__init__()
        self.nodes, self.mass = nodes, 0.0
        latents = {n: s for n, s in sample_sites(guide_trace).items() if not s["is_observed"]}
        self.shapes = {name: site["fn"].batch_shape[1:] for name, site in latents.items()}
        counts = [self._count(site["fn"]) for site in latents.values()]
        sizes = [shape.numel() for shape in self.shapes.values()]
        radices = [torch.arange(c) for c, n in zip(counts, sizes, strict=True) for _ in range(n)]
        digits = torch.cartesian_prod(*radices).reshape(-1, len(radices)).split(sizes, 1)
        self.digits = dict(zip(latents, digits, strict=True))

    def __len__(self):
        return len(next(iter(self.digits.values())))

    def _count(self, fn):
        return self.nodes if distribution_name(fn) == "Normal" else len(all_values(fn))

    def _pyro_sample(self, msg):
        if msg["name"] not in self.digits:
            return
        fn, shape = msg["fn"], self.shapes[msg["name"]]
        digits = self.digits[msg["name"]].reshape(-1, *shape)
        if distribution_name(fn) == "Normal":
            values, log_weight = hermite(fn, self.nodes, -1 - len(fn.batch_shape))
            values = values.expand(self.nodes, *fn.batch_shape)
            value = values.gather(0, digits[None])[0]
            mass = log_weight.flatten()[digits]
        else:
            value = all_values(fn)[digits]
            mass = fn.log_prob(value)
        msg["value"], msg["done"] = value, True
        self.mass = self.mass + mass.reshape(len(mass), -1).sum(1)


def configurations(case, nodes=10):
    """Every joint value of the whole program, whatever its plates: (parts, weight, leaves).

    A part of ``case.units`` has (log p, log q), (S, units) each and scaled as in the program; the
    log-weight of the values is (S,).
    """
    model, guide, _ = case.programs(1)
    every = Configure(poutine.trace(guide).get_trace(), nodes)
    model, guide, leaves = case.programs(len(every))
    programs = ModelAndGuide(model, guide, (), {})
    with every:
        guide_trace = programs.score(guide)
    model_trace = programs.score(poutine.replay(model, trace=guide_trace))
    parts = []
    for names, plates in case.units:
        shared = {"replicates", *plates.split()}
        inside = (
            [s for n, s in sample_sites(t).items() if n in names.split()]
            for t in (model_trace, guide_trace)
        )
        log_p, log_q = (_joint(sites, shared, case.nesting + 1) for sites in inside)
        log_p, log_q = torch.broadcast_tensors(log_p, log_q)
        parts.append((log_p.reshape(len(every), -1), log_q.reshape(len(every), -1)))
    return parts, every.mass, leaves


def pair_bound(log_w, mass, scale):
    """−E log ½(w_1 + w_2), summed over units; log_w (S, units …), mass (S, units …) or (S,)."""
    log_w = log_w / scale
    pair = torch.logaddexp(log_w[:, None], log_w[None]) - math.log(2)
    return -(pairs_of(mass, pair.dim()) * pair).sum() * scale


def pairs_of(mass, rank):
    """(S, S, units …) probability of two independent draws."""
    both = (mass[:, None] + mass[None]).exp()
    return both.reshape(*both.shape, *(1,) * (rank - both.dim()))


def exact_pair_bound(case):
    """(P,) gradient of the K-sample bound's loss for K = 2, and that loss."""
    if case.local:
        log_p, log_q, mass, leaves = tables(case)
        parts = [(log_p, log_q)]
    else:
        parts, mass, leaves = configurations(case)
    loss = sum(pair_bound(log_p - log_q, mass, case.scale) for log_p, log_q in parts)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return flat(leaves, gradients).sum(0), float(loss.detach())


def z_of(values, expected):
    """How many of its standard errors the mean lies from what it is said to be."""
    return (values.mean() - expected) / values.std(ddof=1) * len(values) ** 0.5


def critical(tests):
    """|z| that one of so many tests exceeds with probability FAMILY_WISE_ERROR at most."""
    return NormalDist().inv_cdf(1 - FAMILY_WISE_ERROR / (2 * tests))


def worst_z(case, estimator, expected, bias, tests, most=4_000_000):
    """Largest |z| over parameters, from as many samples as show a bias of ``bias`` × ‖gradient‖.

    Sampling stops when such a bias in any one coordinate would exceed the critical value with
    probability POWER.
    """
    needed = critical(tests) + NormalDist().inv_cdf(POWER)
    floor = 1e-9 * (1 + expected.abs().max())  # rounding, where a gradient has no variance
    total, squares, count = torch.zeros_like(expected), torch.zeros_like(expected), 0
    while count < most:
        gradients, _ = per_sample(case, estimator, CHUNK)
        gradients = gradients - expected
        total, squares = total + gradients.sum(0), squares + gradients.square().sum(0)
        count += CHUNK
        mean = total / count
        error = (squares / count - mean**2).clamp(min=0).sqrt() / count**0.5 + floor
        if (error * needed).max() <= bias * expected.norm():
            return float((mean / error).abs().max())
    raise AssertionError(f"{count:,} samples do not suffice: errors {error.tolist()}")
