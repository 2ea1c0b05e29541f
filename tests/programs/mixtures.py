"""Mixtures of Gaussians and of words: summed out, enumerated, drawn, by autoguides.

Like Pyro's tutorial "Gaussian mixture model" and its example ``lda``.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, autoguide, config_enumerate
from torch import nn

from tests.programs.registry import noise, program, uniform

K, N = 2, 7


def points():
    return {"x": torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0, 0.5, 9.5])}


def gmm(x):
    weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(K)))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
    with pyro.plate("components", K):
        locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
    with pyro.plate("data", N, subsample=x):
        kind = pyro.sample("kind", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(locs[kind], scale), obs=x)


def one_plate():
    return TraceEnum_ELBO(max_plate_nesting=1)


@program(one_plate)
def gmm_map():
    """Gaussian mixture: assignments summed out, AutoDelta for the rest."""
    model = config_enumerate(gmm)
    guide = autoguide.AutoDelta(poutine.block(model, hide=["kind"]))
    return model, guide, points(), guide


@program(one_plate)
def gmm_posterior():
    """Gaussian mixture: assignments summed out, AutoNormal for the rest."""
    model = config_enumerate(gmm)
    guide = autoguide.AutoNormal(poutine.block(model, hide=["kind"]))
    return model, guide, points(), guide


@program(one_plate)
def gmm_guide_list():
    """Gaussian mixture: AutoGuideList of AutoNormal and AutoDiscreteParallel."""
    model = config_enumerate(gmm)
    guide = autoguide.AutoGuideList(model)
    guide.append(autoguide.AutoNormal(poutine.block(model, hide=["kind"])))
    guide.append(autoguide.AutoDiscreteParallel(poutine.block(model, expose=["kind"])))
    return model, guide, points(), guide


def assigning_guide(x):
    pyro.sample("weights", dist.Dirichlet(1 + pyro.param("counts", torch.ones(K)).exp()))
    pyro.sample("scale", dist.LogNormal(pyro.param("log_scale", torch.tensor(0.5)), 0.1))
    with pyro.plate("components", K):
        pyro.sample("locs", dist.Normal(pyro.param("centres", torch.tensor([1.0, 8.0])), 0.5))
    logits = pyro.param("logits", 0.1 * noise(N, K))
    with pyro.plate("data", N, subsample=x):
        pyro.sample("kind", dist.Categorical(logits=logits))


@program(TraceGraph_ELBO, other_noise=True)
def gmm_score():
    """Gaussian mixture: assignments drawn, score function."""
    return gmm, assigning_guide, points()


@program(one_plate, other_noise=True)
def gmm_enumerated():
    """Gaussian mixture: assignments enumerated in the guide."""
    return gmm, config_enumerate(assigning_guide), points()


def maximum_likelihood(x):
    w = pyro.param("w", torch.tensor([0.4, 0.6]), constraint=constraints.simplex)
    loc = pyro.param("loc", torch.tensor([0.0, 8.0]))
    with pyro.plate("data", N, subsample=x):
        kind = pyro.sample("kind", dist.Categorical(w))
        pyro.sample("x", dist.Normal(loc[kind], 1.0), obs=x)


@program(one_plate, batch_size=3)
def gmm_likelihood():
    """Gaussian mixture by maximum likelihood, minibatches, empty guide."""
    return config_enumerate(maximum_likelihood), lambda x: None, points()


@program()
def gmm_same_family():
    """Gaussian mixture as one MixtureSameFamily distribution, AutoNormal."""

    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(K)))
        locs = pyro.sample("locs", dist.Normal(torch.tensor([0.0, 8.0]), 3.0).to_event(1))
        mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(locs, 1.0))
        with pyro.plate("data", N, subsample=x):
            pyro.sample("x", mixture, obs=x)

    guide = autoguide.AutoNormal(model)
    return model, guide, points(), guide


DOCUMENTS, WORDS, VOCABULARY, TOPICS = 4, 6, 5, 2


def lda(words):
    """Topics of words; one row a document."""
    with pyro.plate("topics", TOPICS):
        topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(VOCABULARY)))
    with pyro.plate("documents", DOCUMENTS, subsample=words, dim=-1):
        mix = pyro.sample("mix", dist.Dirichlet(torch.ones(TOPICS)))
        with pyro.plate("words", WORDS, dim=-2):
            topic = pyro.sample("topic", dist.Categorical(mix), infer={"enumerate": "parallel"})
            pyro.sample("word", dist.Categorical(topic_words[topic]), obs=words.T)


class TopicPredictor(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(VOCABULARY, 4), nn.Sigmoid(), nn.Linear(4, TOPICS))

    def forward(self, words):
        counts = nn.functional.one_hot(words, VOCABULARY).sum(1)
        return self.layers(counts.to(torch.get_default_dtype())).softmax(-1)


@program(lambda: TraceEnum_ELBO(max_plate_nesting=2), batch_size=2)
def lda_amortised():
    """Latent Dirichlet allocation: topics of words summed out, amortised documents."""
    predict = TopicPredictor()

    def guide(words):
        pyro.module("predict", predict)
        shape = pyro.param(
            "shape", 1 + uniform(TOPICS, VOCABULARY), constraint=constraints.positive
        )
        with pyro.plate("topics", TOPICS):
            pyro.sample("topic_words", dist.Dirichlet(shape))
        with pyro.plate("documents", DOCUMENTS, subsample=words, dim=-1):
            pyro.sample("mix", dist.Delta(predict(words), event_dim=1))

    words = (VOCABULARY * uniform(DOCUMENTS, WORDS)).long()
    return lda, guide, {"words": words}, predict


@program()
def dirichlet_multinomial():
    """Counts of kinds by site, one Dirichlet each, exact family as guide."""

    def model(counts):
        with pyro.plate("places", 4, subsample=counts):
            share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
            pyro.sample("counts", dist.Multinomial(10, share), obs=counts)

    def guide(counts):
        prior = pyro.param("prior", torch.ones(3), constraint=constraints.positive)
        with pyro.plate("places", 4, subsample=counts):
            pyro.sample("share", dist.Dirichlet(prior + counts))

    first = (5 * uniform(4, 2)).floor()
    return model, guide, {"counts": torch.cat([first, 10 - first.sum(-1, keepdim=True)], -1)}
