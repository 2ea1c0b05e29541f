"""Glimpses of images: recurrent attention, trained on its lower bound."""

from inference.recipes.glimpses import options

RECIPES = {"glimpses": options.GlimpsesOptions}
COMMANDS = {"look": options.LookOptions}
