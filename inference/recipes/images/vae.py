"""Variational autoencoder of images: Kingma & Welling 2014.  The recipe to copy.

lowerbound fit vae --data mnist --latent-dim 50 --hidden 200 200 --binarize dynamic
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from inference.recipes.contract import Recipe, Training

if TYPE_CHECKING:
    from inference.results.run import Run


@dataclass(frozen=True)
class Options(Training):
    """A VAE of images: z ~ N(0, I), x ~ p(x | decoder(z)), q(z | x) a Gaussian by a network."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, binarized-mnist, hub:NAME, or the path of a file or folder."""
    latent_dim: int = 20
    """Length of z."""
    hidden: tuple[int, ...] = (400,)
    """Widths of the MLP's hidden layers; for conv, the first number of channels."""
    network: Literal["mlp", "conv"] = "mlp"
    """Kind of encoder and decoder."""
    activation: Literal["relu", "tanh"] = "relu"
    """Of the MLP."""
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli"
    """p(x | z), pixel by pixel."""
    binarize: Literal["none", "dynamic"] = "none"
    """Draw pixels x ~ Bernoulli(grey level) anew for each batch."""
    validation: bool = True
    """Hold the validation split out; without it, train on it too, as published figures do."""
    test_samples: int = 0
    """K of the importance-weighted bound L_K on the test data (0: not computed)."""


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    from guides.amortized import AmortizedGaussian
    from inference.data.sources import load
    from ppl_models.likelihoods import LIKELIHOODS
    from ppl_models.vae import VAE

    splits = load(options.data)
    train, valid, test = (
        images(part, options) for part in (splits.train, splits.valid, splits.test)
    )
    if not options.validation:
        train, valid = train.followed_by(valid), None
    encoder, decoder = networks(options, train.tensors["x"].shape[1:])
    likelihood = LIKELIHOODS[options.likelihood]()
    model = VAE(decoder, likelihood, options.latent_dim, size=len(train))
    return Recipe(
        model,
        AmortizedGaussian(encoder, size=len(train)),
        train,
        valid,
        report=lambda run: report(run, test, options.test_samples),
    )


def images(part: Any, options: Options) -> Any:
    """The column x alone, binarised if asked; checked against what the likelihood can score."""
    from inference.data.columns import Columns
    from inference.recipes.images.data.binarize import binarize
    from inference.util.errors import UserError

    x = part.tensors.get("x")
    if x is not None and x.dim() == 3:  # grey images without a channel
        x = x[:, None]
    if x is None or x.dim() != 4:
        found = {name: tuple(column.shape) for name, column in part.tensors.items()}
        raise UserError(
            f"the VAE needs a column 'x' of images (N, C, H, W) or (N, H, W); the data have {found}"
        )
    if options.likelihood != "gaussian" and (x.min() < 0 or x.max() > 1):
        raise UserError("column 'x' leaves [0, 1]: scale it, or use --likelihood gaussian")
    return Columns({"x": x}, binarize("x") if options.binarize == "dynamic" else None)


def networks(options: Options, shape: Any) -> tuple[Any, Any]:
    """(encoder to 2 · latent_dim, decoder to an image)."""
    from torch import nn

    from ppl_models.networks import ConvDecoder, ConvEncoder, image_decoder, image_encoder

    if options.network == "conv":
        channels = options.hidden[0]
        return (
            ConvEncoder(shape, channels, 2 * options.latent_dim),
            ConvDecoder(shape, channels, options.latent_dim),
        )
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[options.activation]
    widths = options.hidden
    return (
        image_encoder(shape, widths, 2 * options.latent_dim, activation),
        image_decoder(shape, widths[::-1], options.latent_dim, activation),
    )


def report(run: Run, test: Any, test_samples: int) -> dict[str, Any]:
    """Test −ELBO, k-hat, active units and (if asked) L_K of the first seed; two pictures."""
    from inference.results import evaluate, plots
    from inference.results.posterior import khat_group
    from inference.results.traces import with_groups

    test = run.place(test)
    program, batch = run.programs[0], test.rows(slice(0, 200))
    guide = khat_group(program, batch)
    run.trace = with_groups(run.trace, {"guide": guide})
    figures: dict[str, Any] = {
        "test ELBO": evaluate.importance_weighted_bound(program, test, 1),
        "k-hat, median over 200 images": float(guide["khat"].median()),
        "active units": evaluate.active_units(program, test)["z"],
    }
    if test_samples:
        bounds = evaluate.importance_weighted_bound(program, test, test_samples)
        figures[f"test L_{test_samples}"] = bounds
    if run.directory is not None:
        plots.reconstructions(program, batch["x"][:10], run.directory / "reconstructions.png")
        plots.samples(program.model, 64, run.directory / "samples.png")
    return figures
