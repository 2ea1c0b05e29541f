"""Captions of pictures."""

RECIPES = ("captioner",)
