"""Toy problems whose gradients are known in closed form."""

from inference.recipes.toys import options

RECIPES = {
    "expected_square": options.ExpectedSquareOptions,
    "squared_distance": options.SquaredDistanceOptions,
}
