"""Captions of pictures."""

from inference.recipes.captions import options

RECIPES = {
    "captioner": options.CaptionerOptions,
    "images_captions": options.ImagesCaptionsOptions,
}
COMMANDS = {"caption": options.CaptionOptions}
