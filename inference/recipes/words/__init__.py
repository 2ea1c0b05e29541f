"""Word vectors and language models."""

from inference.recipes.words import options

RECIPES = {"nce_lm": options.NCELMOptions, "skipgram": options.SkipGramOptions}
COMMANDS = {"neighbours": options.NeighboursOptions}
