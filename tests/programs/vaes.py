"""Autoencoders: as modules and as bound methods, with labels, layers that keep state, and deep.

Like Pyro's examples ``vae``, ``ss_vae_M2``, ``cvae``, ``sparse_gamma_def``, ``air`` and its
tutorial on ProdLDA.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, autoguide
from pyro.infer import config_enumerate as enumerated
from pyro.nn import PyroModule
from torch import nn

from tests.programs.registry import noise, program, uniform

N, D, Z = 8, 6, 2


def pictures():
    return {"x": (uniform(N, D) < 0.5).to(torch.get_default_dtype())}


class Decoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.writer = nn.Sequential(nn.Linear(Z, 4), nn.Softplus(), nn.Linear(4, D))

    def forward(self, x):
        with pyro.plate("data", N, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(Z), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.writer(z)).to_event(1), obs=x)


class Encoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.reader = nn.Sequential(nn.Linear(D, 4), nn.Softplus(), nn.Linear(4, 2 * Z))

    def forward(self, x):
        loc, width = self.reader(x).chunk(2, -1)
        with pyro.plate("data", N, subsample=x):
            pyro.sample("z", dist.Normal(loc, width.exp()).to_event(1))


@program(batch_size=3)
def vae_modules():
    """Autoencoder as two PyroModules, minibatches with a ragged last."""
    model, guide = Decoder(), Encoder()
    return model, guide, pictures(), model, guide


@program(TraceMeanField_ELBO, batch_size=4)
def vae_analytic():
    """Autoencoder with the KL in closed form."""
    model, guide = Decoder(), Encoder()
    return model, guide, pictures(), model, guide


class VAE(nn.Module):
    """The example's shape: one nn.Module, model and guide its methods."""

    def __init__(self, *between):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(D, 4), *between, nn.Softplus(), nn.Linear(4, 2 * Z))
        self.decoder = nn.Sequential(nn.Linear(Z, 4), nn.Softplus(), nn.Linear(4, D))

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", N, subsample=x):
            z = pyro.sample("z", dist.Normal(x.new_zeros(Z), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", N, subsample=x):
            loc, width = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, width.exp()).to_event(1))


@program(batch_size=4)
def vae_methods():
    """Autoencoder as bound methods of one nn.Module."""
    vae = VAE()
    return vae.model, vae.guide, pictures(), vae


@program(batch_size=4)
def vae_batch_norm():
    """Autoencoder as bound methods, with batch normalisation (buffers)."""
    vae = VAE(nn.BatchNorm1d(4))
    return vae.model, vae.guide, pictures(), vae


@program(batch_size=4)
def vae_dropout():
    """Autoencoder as bound methods, with dropout (training mode)."""
    vae = VAE(nn.Dropout(0.3))
    return vae.model, vae.guide, pictures(), vae


CLASSES = 3


def side_by_side(a, b):
    """(…, A + B): enumerated classes have a dimension that the data lack."""
    shape = torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    return torch.cat([a.expand(*shape, -1), b.expand(*shape, -1)], -1)


class SemiSupervised(nn.Module):
    """A picture comes from a style z and a class y, here unknown."""

    def __init__(self):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(Z + CLASSES, D), nn.Linear(D + CLASSES, 2 * Z)
        self.classifier = nn.Linear(D, CLASSES)

    def model(self, x):
        pyro.module("ss_vae", self)
        with pyro.plate("data", N, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(Z), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(torch.ones(CLASSES) / CLASSES))
            logits = self.decoder(side_by_side(z, y))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("ss_vae", self)
        with pyro.plate("data", N, subsample=x):
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.classifier(x)))
            loc, width = self.encoder(side_by_side(x, y)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, width.exp()).to_event(1))


@program(lambda: TraceEnum_ELBO(max_plate_nesting=1), batch_size=4)
def ss_vae_enumerated():
    """Autoencoder with unknown classes, enumerated in the guide."""
    vae = SemiSupervised()
    return vae.model, enumerated(vae.guide), pictures(), vae


@program(TraceGraph_ELBO, batch_size=4)
def ss_vae_sampled():
    """Autoencoder with unknown classes, drawn, score function."""
    vae = SemiSupervised()
    return vae.model, vae.guide, pictures(), vae


class Supervised(SemiSupervised):
    def model(self, x, y):
        pyro.module("ss_vae", self)
        with pyro.plate("data", N, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(Z), 1.0).to_event(1))
            pyro.sample("y", dist.OneHotCategorical(torch.ones(CLASSES) / CLASSES), obs=y)
            logits = self.decoder(torch.cat([z, y], -1))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)
            with poutine.scale(scale=2.0):
                logits = self.classifier(x)
                pyro.sample("y_aux", dist.OneHotCategorical(logits=logits), obs=y)

    def guide(self, x, y):
        pyro.module("ss_vae", self)
        with pyro.plate("data", N, subsample=x):
            loc, width = self.encoder(torch.cat([x, y], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, width.exp()).to_event(1))


@program(batch_size=4)
def ss_vae_labelled():
    """Autoencoder with known classes and a scaled classification term."""
    vae = Supervised()
    y = nn.functional.one_hot(torch.arange(N) % CLASSES).to(torch.get_default_dtype())
    return vae.model, vae.guide, pictures() | {"y": y}, vae


class Conditional(PyroModule):
    """Half a picture x tells the other half y, through a latent with a learned prior."""

    def __init__(self):
        super().__init__()
        self.baseline, self.prior = nn.Linear(3, 3), nn.Linear(6, 2 * Z)
        self.decoder, self.encoder = nn.Linear(Z, 3), nn.Linear(6, 2 * Z)

    def model(self, x, y):
        pyro.module("cvae", self)
        with pyro.plate("data", N, subsample=x):
            guess = self.baseline(x)
            loc, width = self.prior(torch.cat([x, guess.sigmoid()], -1)).chunk(2, -1)
            z = pyro.sample("z", dist.Normal(loc, width.exp()).to_event(1))
            logits = self.decoder(z) + guess
            pyro.sample("y", dist.Bernoulli(logits=logits).to_event(1), obs=y)

    def guide(self, x, y):
        pyro.module("cvae", self)
        with pyro.plate("data", N, subsample=x):
            loc, width = self.encoder(torch.cat([x, y], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, width.exp()).to_event(1))


@program(batch_size=4)
def cvae():
    """Conditional autoencoder: half a picture predicts the other half."""
    net = Conditional()
    x, y = pictures()["x"].chunk(2, -1)
    return net.model, net.guide, {"x": x, "y": y}, net


def sparse_gamma(x):
    """Two layers of gamma latents above Poisson counts."""
    with pyro.plate("top_weights", 4):
        w_top = pyro.sample("w_top", dist.Gamma(0.5, 0.5))
    with pyro.plate("bottom_weights", 2 * D):
        w_bottom = pyro.sample("w_bottom", dist.Gamma(0.5, 0.5))
    w_top, w_bottom = w_top.reshape(2, 2), w_bottom.reshape(2, D)
    with pyro.plate("data", N, subsample=x):
        z_top = pyro.sample("z_top", dist.Gamma(torch.full((2,), 0.5), 0.5).to_event(1))
        rate = 0.5 / (z_top @ w_top + 1e-3)
        z = pyro.sample("z", dist.Gamma(0.5, rate).to_event(1))
        pyro.sample("x", dist.Poisson(z @ w_bottom + 1e-3).to_event(1), obs=x)


def sparse_gamma_guide(x):
    def q(name, *shape):
        alpha = pyro.param(f"alpha_{name}", torch.full(shape, 1.5), constraint=constraints.positive)
        mean = pyro.param(f"mean_{name}", torch.full(shape, 1.0), constraint=constraints.positive)
        return dist.Gamma(alpha, alpha / mean)

    with pyro.plate("top_weights", 4):
        pyro.sample("w_top", q("w_top", 4))
    with pyro.plate("bottom_weights", 2 * D):
        pyro.sample("w_bottom", q("w_bottom", 2 * D))
    with pyro.plate("data", N, subsample=x):
        pyro.sample("z_top", q("z_top", N, 2).to_event(1))
        pyro.sample("z", q("z", N, 2).to_event(1))


@program()
def sparse_gamma_def():
    """Sparse gamma deep exponential family, mean-field gamma guide."""
    return sparse_gamma, sparse_gamma_guide, {"x": (4 * uniform(N, D)).floor()}


@program()
def sparse_gamma_auto():
    """Sparse gamma deep exponential family, AutoNormal."""
    guide = autoguide.AutoNormal(sparse_gamma, init_scale=0.05)
    return sparse_gamma, guide, {"x": (4 * uniform(N, D)).floor()}, guide


class ProdLDA(PyroModule):
    """Documents as softmax mixtures, decoded through batch normalisation."""

    def __init__(self):
        super().__init__()
        self.encoder, self.log_width = nn.Linear(D, Z), nn.Parameter(torch.full((Z,), -0.5))
        self.topics, self.norm = nn.Linear(Z, D, bias=False), nn.BatchNorm1d(D, affine=False)
        self.drop = nn.Dropout(0.2)

    def model(self, counts):
        pyro.module("prod_lda", self)
        with pyro.plate("documents", N, subsample=counts):
            z = pyro.sample("z", dist.Normal(torch.zeros(Z), 1.0).to_event(1))
            words = self.norm(self.topics(self.drop(z.softmax(-1)))).softmax(-1)
            pyro.sample("counts", dist.Multinomial(6, words), obs=counts)

    def guide(self, counts):
        pyro.module("prod_lda", self)
        with pyro.plate("documents", N, subsample=counts):
            width = self.log_width.exp().expand(len(counts), Z)
            pyro.sample("z", dist.Normal(self.encoder(counts), width).to_event(1))


@program(TraceMeanField_ELBO, batch_size=4)
def prod_lda():
    """ProdLDA: logistic-normal topics, batch normalisation and dropout in the decoder."""
    topics = ProdLDA()
    counts = torch.stack([torch.arange(N).roll(i) % 4 == 0 for i in range(D)], -1)
    counts = 3 * counts.to(torch.get_default_dtype())
    counts[:, 0] += 6 - counts.sum(-1)
    return topics.model, topics.guide, {"counts": counts}, topics


class Attend(nn.Module):
    """Attend, infer, repeat: up to two objects, each there or not, in a picture of D numbers."""

    def __init__(self):
        super().__init__()
        self.look, self.object, self.baseline = nn.Linear(D, 1), nn.Linear(Z, D), nn.Linear(D, 1)
        self.place = nn.Linear(D, 2 * Z)

    def model(self, x):
        pyro.module("air", self)
        with pyro.plate("data", N, subsample=x):
            here, canvas = torch.ones(len(x)), torch.zeros(len(x), D)
            for step in range(2):
                there = dist.Bernoulli(0.5 * here)
                here = pyro.sample(f"here_{step}", there.to_event(0))
                with poutine.mask(mask=here.bool()):
                    z = pyro.sample(f"z_{step}", dist.Normal(torch.zeros(Z), 1.0).to_event(1))
                canvas = canvas + here[:, None] * self.object(z)
            pyro.sample("x", dist.Normal(canvas, 0.5).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("air", self)
        with pyro.plate("data", N, subsample=x):
            here = torch.ones(len(x))
            for step in range(2):
                chance = self.look(x)[:, 0].sigmoid() * here
                infer = {"baseline": {"nn_baseline": self.baseline_of, "nn_baseline_input": x}}
                here = pyro.sample(f"here_{step}", dist.Bernoulli(chance), infer=infer)
                loc, width = self.place(x).chunk(2, -1)
                with poutine.mask(mask=here.bool()):
                    pyro.sample(f"z_{step}", dist.Normal(loc, width.exp()).to_event(1))

    def baseline_of(self, x):
        return self.baseline(x).squeeze(-1)


@program(TraceGraph_ELBO, batch_size=4)
def air():
    """Attend, infer, repeat: variable number of objects, neural baseline."""
    net = Attend()
    return net.model, net.guide, {"x": noise(N, D)}, net
