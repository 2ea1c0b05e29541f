"""Captions of pictures."""

from inference.recipes.captions import options

RECIPES = {"captioner": options.CaptionerOptions}
COMMANDS = {"caption": options.CaptionOptions}
