"""Variational autoencoder of images: Kingma & Welling 2014.  The recipe to copy.

lowerbound fit vae --data mnist --latent-dim 50 --hidden 200 200 --binarize dynamic
"""

from __future__ import annotations

from torch import Size, nn

from guides.amortized import AmortizedGaussian
from inference.data.columns import Columns
from inference.data.sources import load_splits
from inference.data.values import images, refuse_beyond_unit
from inference.recipes.contract import Figures, Recipe
from inference.recipes.images.data.binarize import binarize
from inference.recipes.images.options import VAEOptions as Options
from inference.results import evaluate, plots, traces
from inference.results.posterior import khat_group
from inference.results.run import Run
from inference.util.errors import UserError
from ppl_models.likelihoods import LIKELIHOODS
from ppl_models.networks import ConvDecoder, ConvEncoder, image_decoder, image_encoder
from ppl_models.vae import VAE


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    splits = load_splits(options.data, options.range)
    train, valid, test = (
        image_columns(s, options) for s in (splits.train, splits.valid, splits.test)
    )
    if not options.validation:
        train = train.followed_by(valid)
    encoder, decoder = networks(options, train.tensors["x"].shape[1:])
    likelihood = LIKELIHOODS[options.likelihood]()
    return Recipe(
        model=VAE(decoder, likelihood, options.latent_dim, size=len(train)),
        guide=AmortizedGaussian(encoder, size=len(train)),
        train=train,
        valid=valid if options.validation else None,
        report=lambda run: report(run, test, options.test_samples),
    )


def image_columns(split: Columns, options: Options) -> Columns:
    """The column x alone (N, C, H, W), binarised if asked.

    Raises:
        UserError: there is no such column, or the likelihood cannot score it.
    """
    x = images("the VAE", split.tensors)
    if options.likelihood != "gaussian":
        refuse_beyond_unit(x, ", or use --likelihood gaussian")
    return Columns({"x": x}, binarize("x") if options.binarize == "dynamic" else None)


def networks(options: Options, shape: Size) -> tuple[nn.Module, nn.Module]:
    """(encoder to 2 · latent_dim, decoder to an image of this shape)."""
    widths, latent_dim = options.hidden, options.latent_dim
    if options.network == "conv":
        if not widths:
            raise UserError("--network conv needs --hidden: give its first number of channels")
        return (
            ConvEncoder(shape, widths[0], 2 * latent_dim),
            ConvDecoder(shape, widths[0], latent_dim),
        )
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[options.activation]
    return (
        image_encoder(shape, widths, 2 * latent_dim, activation),
        image_decoder(shape, widths[::-1], latent_dim, activation),
    )


def report(run: Run, test: Columns, test_samples: int) -> Figures:
    """Test ELBO, k-hat, active units and (if asked) L_K of the first seed; two pictures."""
    test = run.place(test)
    program, batch = run.programs[0], test.rows(slice(0, 200))
    guide = khat_group(program, batch)
    run.trace = traces.with_groups(run.trace, {"guide": guide})
    figures: Figures = {
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
