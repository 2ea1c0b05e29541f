"""``lowerbound caption``: caption pictures with a trained captioner."""

from __future__ import annotations

from pathlib import Path

from inference.recipes.captions.data.encoders import Encoder, default_encoder, load_encoder
from inference.recipes.captions.data.pictures import Picture
from inference.recipes.captions.options import CaptionOptions
from inference.recipes.captions.report.attention import plot_attention
from inference.recipes.captions.report.said import example, search
from inference.recipes.captions.trained import Trained, trained
from inference.util.errors import UserError


def run(options: CaptionOptions) -> None:
    """Print a caption for each picture; write a picture of its attention."""
    for file, words in caption_images(options).items():
        print(f"{file}: {words}")
    print(f"attention: {options.run / 'captions'}")


def caption_images(options: CaptionOptions) -> dict[Path, str]:
    """Caption pictures with a trained run; write a picture of each one's attention to the run.

    Returns:
        file → caption.

    Raises:
        UserError: the directory holds no finished captioner, its encoder is code that the options
            do not name, or a picture cannot be read.
    """
    found = trained(options.run)
    encode = encoder_of(found, options)
    pictures = [Picture(file.name, "test", (), file.read_bytes) for file in options.images]
    said = {}
    for file, picture in zip(options.images, pictures, strict=True):
        grid = encode([picture.open()]).to(found.captioner.embed.weight)
        caption = search(found.captioner, grid, options.beam, options.length_penalty)
        shown = example(picture, caption, found.vocabulary, found.options["attention"], {})
        plot_attention(shown, options.run / "captions" / f"{file.stem}.png")
        said[file] = found.vocabulary.decode(caption.words[0].tolist())
    return said


def encoder_of(found: Trained, options: CaptionOptions) -> Encoder:
    """The encoder that the run was trained with.

    Raises:
        UserError: it is code outside of this library, which runs only if the options name it, too.
    """
    name = found.options["encoder"] or default_encoder(found.options["data"])
    library, _, what = name.partition(":")
    if what and library not in ("timm", "torchvision") and options.encoder != name:
        raise UserError(
            f"the encoder of {options.run} is code, {name}: if you trust it, give --encoder {name}"
        )
    return load_encoder(name).to(options.device)
