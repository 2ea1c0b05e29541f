"""Labelled images, and the codes of a VAE in their place."""
