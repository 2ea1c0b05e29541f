"""Images with few labels: the deconvolutional model with heads, and M2 beside it."""

from inference.recipes.labelled_images import options

RECIPES = {"images_labels": options.ImagesLabelsOptions}
