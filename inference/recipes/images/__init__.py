"""Latent-variable models of images."""

from inference.recipes.images import options

RECIPES = {
    "attention": options.AttentionOptions,
    "categorical_vae": options.CategoricalVAEOptions,
    "sbn": options.SBNOptions,
    "vae": options.VAEOptions,
}
