"""Words: their vectors, and models of language."""

RECIPES = ("nce_lm", "skipgram")
