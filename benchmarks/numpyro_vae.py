"""The benchmark's VAE as a NumPyro program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.infer import SVI, Trace_ELBO

from benchmarks.timing import Step
from inference.data.columns import Columns, epoch_order

SIZE, PIXELS, LATENT, HIDDEN = 20_000, 784, 20, 400


def affine(name: str, x: Array, width: int) -> Array:
    """x W + b, with torch's initial values."""
    bound = x.shape[-1] ** -0.5

    def initial(key: Array) -> tuple[Array, Array]:
        a, b = jax.random.split(key)
        shape = (x.shape[-1], width)
        return (
            jax.random.uniform(a, shape, minval=-bound, maxval=bound),
            jax.random.uniform(b, (width,), minval=-bound, maxval=bound),
        )

    weight, bias = numpyro.param(name, initial)
    return x @ weight + bias


def model(x: Array) -> None:
    """z ~ N(0, I), x ~ Bernoulli(decoder(z))."""
    with numpyro.plate("data", SIZE, subsample_size=len(x)):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([LATENT]).to_event(1))
        logits = affine("out", jax.nn.relu(affine("hidden", z, HIDDEN)), PIXELS)
        numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


def guide(x: Array) -> None:
    """z ~ N(encoder(x))."""
    with numpyro.plate("data", SIZE, subsample_size=len(x)):
        both = affine("code", jax.nn.relu(affine("seen", x, HIDDEN)), 2 * LATENT)
        loc, log_scale = jnp.split(both, 2, -1)
        numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))


def update(columns: Columns, batch_size: int) -> Step:
    """``SVI.update``, jitted together with the choice of the batch's rows."""
    data = jnp.asarray(columns.tensors["x"].flatten(1).numpy())
    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), Trace_ELBO())
    state = svi.init(jax.random.PRNGKey(0), data[:batch_size])
    order = [i for i in epoch_order(SIZE, batch_size, 0, 0) if i is not None]
    drawn = [np.asarray(i) for i in order if len(i) == batch_size]

    @jax.jit
    def jitted(state: object, index: Array) -> tuple[object, Array]:
        return svi.update(state, data[index])

    count = 0

    def step() -> Array:
        nonlocal state, count
        state, loss = jitted(state, drawn[count % len(drawn)])
        count += 1
        return loss

    return step
