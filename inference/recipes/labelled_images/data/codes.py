"""The codes of a trained VAE in the place of images: M1 of M1+M2 (Kingma et al. 2014)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from inference.data.columns import Batch, Columns, slices
from inference.results.restored import part_of
from inference.util.errors import UserError
from ppl_models.networks import ConvEncoder, image_encoder

PREFIX = "guide.encoder."
AT_ONCE = 1000  # images


def drawn_codes(images: Columns, directory: Path) -> Columns:
    """x (N, D) drawn anew from q(z | image) for each batch, with the other columns."""
    both = torch.stack(posterior(images.tensors["x"], directory), 1)
    return Columns({**images.tensors, "x": both}, draw)


def mean_codes(images: Columns, directory: Path) -> Columns:
    """x (N, D) the mean of q(z | image), with the other columns."""
    mean, _ = posterior(images.tensors["x"], directory)
    return Columns({**images.tensors, "x": mean})


def draw(batch: Batch) -> Batch:
    """A draw of each row's code, of which x (B, 2, D) holds the mean and scale."""
    mean, scale = batch["x"].unbind(1)
    return {**batch, "x": mean + scale * torch.randn_like(scale)}


def posterior(x: Tensor, directory: Path) -> tuple[Tensor, Tensor]:
    """(mean, scale) of the codes of images (N, C, H, W), (N, D) each."""
    encoder = trained_encoder(directory, x.shape[1:]).to(x.dtype)
    with torch.no_grad():
        parts = [encoder(x[rows]) for rows in slices(len(x), AT_ONCE)]
    mean, log_scale = torch.cat(parts).chunk(2, -1)
    return mean, log_scale.exp()


def trained_encoder(directory: Path, shape: torch.Size) -> nn.Module:
    """The first seed's encoder of a finished fit of the recipe vae.

    Raises:
        UserError: the directory holds none, or one of images of another size.
    """
    options, weights = part_of(directory, "vae", PREFIX)
    out = 2 * options["latent_dim"]
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[options["activation"]]
    encoder = (
        ConvEncoder(shape, options["hidden"][0], out)
        if options["network"] == "conv"
        else image_encoder(shape, options["hidden"], out, activation)
    )
    try:
        encoder.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"the VAE of {directory} is of images of another size than {tuple(shape)}: fit one of "
            "these images"
        ) from None
    return encoder.eval()
