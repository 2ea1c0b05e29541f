"""``lowerbound caption``: caption pictures with a trained captioner."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from inference.data.readers.pictures import picture_bytes
from inference.recipes.captions.data.encoders import OURS, Encoder, default_encoder, load_encoder
from inference.recipes.captions.data.pictures import Picture
from inference.recipes.captions.options import CaptionOptions
from inference.recipes.captions.report.attention import plot_attention
from inference.recipes.captions.report.said import example, search
from inference.recipes.captions.trained import Trained, trained
from inference.util.errors import UserError
from inference.util.files import distinct
from inference.util.terminal import printable


def run(options: CaptionOptions) -> None:
    """Print a caption for each picture; write a picture of its attention."""
    for file, words in caption_images(options).items():
        print(printable(f"{file}: {words}"))
    print(printable(f"attention: {options.run / 'captions'}"))


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
    pictures = [
        Picture(str(file), "test", (), partial(picture_bytes, file)) for file in options.images
    ]
    plots = dict(zip(options.images, distinct(options.images), strict=True))
    said = {}
    for file, picture in zip(options.images, pictures, strict=True):
        grid = encode([picture.open()]).to(found.captioner.embed.weight)
        caption = search(found.captioner, grid, options.beam, options.length_penalty)
        shown = example(picture, caption, found.vocabulary, found.options["attention"], {})
        plot_attention(shown, options.run / "captions" / f"{plots[file]}.png")
        said[file] = found.vocabulary.decode(caption.words[0].tolist())
    return said


def encoder_of(found: Trained, options: CaptionOptions) -> Encoder:
    """The encoder that the run was trained with.

    Raises:
        UserError: it is none of ours; such code or download needs the options to name it, too.
    """
    name = found.options["encoder"] or default_encoder(found.options["data"])
    if name not in OURS and options.encoder != name:
        raise UserError(
            f"the encoder of {options.run} is {name}, which is not of this library: if you trust "
            f"it, give --encoder {name}"
        )
    return load_encoder(name).to(options.device)
