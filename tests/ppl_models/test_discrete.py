"""The discrete systems: their joint density is the paper's, and leading dimensions are kept."""

import itertools

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn
from torch.nn import functional as F

from guides.categorical import AmortizedOneHot
from guides.hard_attention import Looker
from guides.sigmoid_belief import BottomUpBernoulli
from inference.estimators import Exact, ScoreFunction
from ppl_models.categorical_vae import CategoricalVAE
from ppl_models.hard_attention import Glimpser, PatchAttention
from ppl_models.sigmoid_belief import SigmoidBeliefNetwork

N, D = 5, 6


def sbn():
    x = torch.bernoulli(torch.rand(N, D))
    model = SigmoidBeliefNetwork([nn.Linear(3, D), nn.Linear(2, 3)], 2, N)
    guide = BottomUpBernoulli([nn.Linear(D, 3), nn.Linear(3, 2)], x.mean(0), N)
    return model, guide, {"x": x}


def categorical():
    x = torch.bernoulli(torch.rand(N, D))
    model = CategoricalVAE(nn.Linear(6, D), 2, 3, N)
    return model, AmortizedOneHot(nn.Linear(D, 6), 2, 3, N), {"x": x}


def attention():
    a, y = torch.randn(N, 3, 4), torch.arange(N) % 2
    glimpser = Glimpser(4, 3, 2, hidden=5)
    return PatchAttention(glimpser, 2, N), Looker(glimpser, 4, 2, N), {"a": a, "y": y}


SYSTEMS = {"sbn": sbn, "categorical": categorical, "attention": attention}


def test_the_belief_network_s_joint_density_and_evidence_by_hand():
    """p(b2) p(b1 | b2) p(x | b1) written out: at the drawn bits, and summed over all bits."""
    model, guide, data = sbn()
    x = data["x"]

    def bits(count):
        return torch.tensor(list(itertools.product([0.0, 1.0], repeat=count)))

    def bernoulli(value, logits):
        return (value * logits - F.softplus(logits)).sum(-1)

    def joint(b2, b1):
        below, pixels = model.networks[1](b2), model.networks[0](b1)
        return bernoulli(b2, model.prior) + bernoulli(b1, below) + bernoulli(x, pixels)

    trace = poutine.trace(guide).get_trace(**data)
    again = poutine.trace(poutine.replay(model, trace=trace)).get_trace(**data)
    by_hand = joint(trace.nodes["b2"]["value"], trace.nodes["b1"]["value"]).sum()
    assert torch.allclose(again.log_prob_sum(), by_hand, rtol=1e-12)
    every = joint(bits(2)[:, None, None], bits(3)[None, :, None]).flatten(0, 1)
    evidence = every.logsumexp(0).sum()
    elbo = -Exact(max_plate_nesting=1).differentiable_loss(model, guide, **data)
    assert evidence > elbo


@pytest.mark.parametrize("name", SYSTEMS)
def test_vectorised_particles_and_a_loop_of_them_agree(name):
    """The same expectation: the exact ELBO lies within their Monte Carlo error."""
    model, guide, data = SYSTEMS[name]()
    exact = float(Exact(max_plate_nesting=1).differentiable_loss(model, guide, **data).detach())
    for vectorize in (False, True):
        estimator = ScoreFunction(50, vectorize_particles=vectorize, max_plate_nesting=1)
        pyro.set_rng_seed(1)
        losses = torch.tensor([estimator.loss(model, guide, **data) for _ in range(20)])
        assert abs(losses.mean() - exact) < 5 * losses.std() / 20**0.5


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_part_of_the_data_is_scaled_to_the_whole(name):
    model, guide, data = SYSTEMS[name]()
    part = {column: value[:2] for column, value in data.items()}
    model.size = guide.size = 2
    small = Exact(max_plate_nesting=1).differentiable_loss(model, guide, **part)
    model.size = guide.size = N
    scaled = Exact(max_plate_nesting=1).differentiable_loss(model, guide, **part)
    assert torch.allclose(scaled, small * N / 2, rtol=1e-12)


@pytest.mark.parametrize("name", SYSTEMS)
def test_pyro_s_own_elbo_takes_them(name):
    model, guide, data = SYSTEMS[name]()
    pyro.set_rng_seed(0)
    ours = ScoreFunction().loss(model, guide, **data)
    pyro.set_rng_seed(0)
    assert ours == pytest.approx(Trace_ELBO().loss(model, guide, **data), rel=1e-12)
