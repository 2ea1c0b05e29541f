"""Images, and latents that explain them."""

RECIPES = ("attention", "categorical_vae", "sbn", "vae")
