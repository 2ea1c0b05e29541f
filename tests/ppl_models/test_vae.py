"""The VAE's parts: shapes for any image, normalised likelihoods, particles that broadcast."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn

from guides.amortized import AmortizedGaussian
from inference.engine.program.program import Program
from inference.results import evaluate
from inference.results.draws.sampler import Sampler, isolated
from ppl_models.likelihoods import LIKELIHOODS, LogisticBins
from ppl_models.networks import ConvDecoder, ConvEncoder, image_decoder, image_encoder
from ppl_models.vae import VAE

SHAPES = [(1, 8, 8), (3, 7, 10), (2, 28, 5)]


def program(shape, network, likelihood="bernoulli", size=20):
    if network == "conv":
        encoder, decoder = ConvEncoder(shape, 4, 6), ConvDecoder(shape, 4, 3)
    else:
        encoder, decoder = image_encoder(shape, [9], 6), image_decoder(shape, [9], 3)
    return VAE(decoder, LIKELIHOODS[likelihood](), 3, size), AmortizedGaussian(encoder, size)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_particles_at_once_equal_particles_one_by_one(shape, network, likelihood):
    """Replaying one vectorised draw particle by particle gives the same weights."""
    model, guide = program(shape, network, likelihood)
    x = torch.randint(0, 2, (5, *shape)).double()
    both = Program(model, guide)
    with both.scope():
        both.initialise({"x": x}, 20)
    with isolated(both):
        taken = Sampler(both)
        (draws,) = taken.draw({"x": x}, 4)
        assert taken.reason is None
        weights = evaluate.weights_of(draws, "data")
        z = draws.guide["z"].value
        assert z.shape == (4, 5, 3)
        for k in range(4):
            fixed = {"z": z[k]}
            p = poutine.trace(poutine.condition(model, fixed)).get_trace(x).log_prob_sum()
            q = poutine.trace(poutine.condition(guide, fixed)).get_trace(x).log_prob_sum()
            assert torch.allclose(weights[k].sum() * 20 / 5, p - q)


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_has_the_image_s_shape(shape):
    for network in ("mlp", "conv"):
        model, _ = program(shape, network)
        assert model.mean(torch.randn(2, 6, 3)).shape == (2, 6, *shape)


def test_elbo_is_the_equation():
    """E log p(x|z) + log p(z) − log q(z|x) at one draw, written out."""
    model, guide = program((1, 8, 8), "mlp")
    x = torch.rand(20, 1, 8, 8).round()
    pyro.set_rng_seed(3)
    loss = Trace_ELBO().loss(model, guide, x)
    pyro.set_rng_seed(3)
    with torch.no_grad():
        mean, log_scale = guide.encoder(x).chunk(2, -1)
        q = dist.Normal(mean, log_scale.exp()).to_event(1)
        z = q.sample()
        logits = model.decoder(z)
        log_likelihood = x * logits - nn.functional.softplus(logits)
        log_p = dist.Normal(0.0, 1.0).expand([3]).to_event(1).log_prob(z)
        elbo = log_likelihood.sum() + (log_p - q.log_prob(z)).sum()
    assert loss == pytest.approx(-float(elbo), rel=1e-12)


@pytest.mark.parametrize("loc", [-0.4, 0.013, 0.5, 1.3])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 2.0])
def test_discretised_logistic_sums_to_one(loc, scale):
    levels = torch.arange(256) / 255
    log_prob = LogisticBins(torch.tensor(loc), torch.tensor(scale)).log_prob(levels)
    assert log_prob.logsumexp(0).abs() < 1e-10
    assert log_prob.isfinite().all()


def test_discretised_logistic_draws_follow_its_probabilities():
    d = LogisticBins(torch.tensor(0.3), torch.tensor(0.2), bins=4)
    draws = d.sample((100_000,))
    for level in torch.arange(4) / 3:
        p = d.log_prob(level).exp()
        share = (draws - level).abs().lt(1e-6).double().mean()
        assert abs(share - p) < 4.5 * (p * (1 - p) / 100_000).sqrt()
