"""Rationales: the words that decide what a text is about."""

from inference.recipes.rationales import options

RECIPES = {"rationales": options.RationalesOptions}
COMMANDS = {"highlight": options.HighlightOptions}
