"""Toys whose gradients are known in closed form."""

RECIPES = ("expected_square", "squared_distance")
