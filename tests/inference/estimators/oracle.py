"""Exact expectations by enumeration, and the z-test of per-sample gradients against them."""

import math
from statistics import NormalDist

import torch

from inference.estimators import Exact
from inference.estimators.exact import Enumerate
from inference.estimators.ledger import all_dims
from inference.sites import sample_sites

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
    from inference.estimators.base import Programs

    programs = Programs(model, guide, (), {}, rank)
    with table:
        guide_trace = programs.score(guide)
    from pyro import poutine

    model_trace = programs.score(poutine.replay(model, trace=guide_trace))
    latent = [s for s in sample_sites(guide_trace).values()]
    shared = set.intersection(*(set(all_dims(s)) for s in latent))
    log_p, log_q = (
        _joint(list(sample_sites(t).values()), shared, rank) for t in (model_trace, guide_trace)
    )
    mass = sum(axis.log_weight for axis in table.axes.values())
    parts = torch.broadcast_tensors(log_p, log_q, mass)
    joint = [part.reshape(-1, *part.shape[part.dim() - rank :]) for part in parts]
    return joint[0], joint[1], joint[2], leaves


def _joint(sites, shared, rank):
    total = 0.0
    for site in sites:
        gone = [d for n, d in all_dims(site).items() if n not in shared]
        value = site["log_prob"]
        total = total + (value.sum(gone, keepdim=True) if gone else value)
    return total


def exact_pair_bound(case, scale=1.0):
    """(P,) gradient of −E log ½(w_1 + w_2), summed over units."""
    log_p, log_q, mass, leaves = tables(case)
    log_w = (log_p - log_q) / scale
    pair = torch.logaddexp(log_w[:, None], log_w[None]) - math.log(2)
    both = (mass[:, None] + mass[None]).exp()
    bound = -(both * pair).sum() * scale
    gradients = torch.autograd.grad(bound, list(leaves.values()), allow_unused=True)
    return flat(leaves, gradients)[0]


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
