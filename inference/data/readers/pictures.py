"""Anybody's picture files, read in one way wherever pictures come from.

Of several frames the first; turned as EXIF says; transparency laid on white; palettes and CMYK as
colours; grey stays grey, in 16 bits if it has them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageOps
from PIL.Image import Image

from inference.util.errors import UserError
from inference.util.reading import contents, reading

MOST_PIXELS = 50_000_000
MOST_BYTES = 1 << 27
# What Pillow decodes by itself; EPS, for one, would be run by Ghostscript.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
    *(".avif", ".jp2", ".tga"),
)
GREY, DEEP, COLOUR = "L", "I;16", "RGB"


def picture_bytes(path: Path) -> bytes:
    """The bytes of a picture file.

    Raises:
        UserError: it cannot be read, or is too large for a picture.
    """
    return contents(path, MOST_BYTES)


def decode_picture(name: str, data: bytes, remedy: str = "replace it") -> Image:
    """The picture in mode ``L``, ``I;16`` (grey, 16 bits) or ``RGB``.

    Args:
        name: for messages.
        data: of the file.
        remedy: what to do if it cannot be decoded.

    Raises:
        UserError: it cannot be decoded, or has more than 50 megapixels.
    """
    with reading(f"picture {name}", remedy), warnings.catch_warnings(action="ignore"):
        PIL.Image.init()
        formats = [name for name in FORMATS if name in PIL.Image.OPEN]  # AVIF needs a library
        try:
            found = PIL.Image.open(io.BytesIO(data), formats=formats)
        except PIL.UnidentifiedImageError:
            raise ValueError("no kind of picture that Pillow knows") from None
        width, height = found.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"{width} × {height} are more than {MOST_PIXELS:,} pixels")
        return _plain(ImageOps.exif_transpose(found))


def _plain(picture: Image) -> Image:
    """One of the three modes."""
    mode = picture.mode
    if mode.startswith(("I;16", "I")):
        return _deep(picture)
    if mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose white is unknown")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        return _on_white(picture)
    return picture.convert(GREY if mode in ("1", GREY) else COLOUR)


def _deep(picture: Image) -> Image:
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its grey levels reach from {values.min()} to {values.max()}")
    return PIL.Image.fromarray(values.astype(np.uint16))


def _on_white(picture: Image) -> Image:
    grey = picture.mode in ("1", GREY, "LA", "La")
    layers = picture.convert("RGBA")
    paper = PIL.Image.new("RGB", picture.size, "white")
    paper.paste(layers, mask=layers.getchannel("A"))
    return paper.convert(GREY) if grey else paper


def in_colour(picture: Image) -> Image:
    """The picture in RGB, eight bits a channel."""
    if picture.mode == DEEP:
        picture = PIL.Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8))
    return picture.convert(COLOUR)


def levels(pictures: Sequence[Image], names: Sequence[str]) -> np.ndarray:
    """Pictures of one size as float32 (N, C, H, W) in [0, 1]; in colour if any of them is.

    Raises:
        UserError: they differ in size.
    """
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        other = next(i for i, p in enumerate(pictures) if p.size != pictures[0].size)
        raise UserError(
            f"{names[0]} is {_size(pictures[0])}, {names[other]} is {_size(pictures[other])}: "
            "give pictures of one size"
        )
    if COLOUR in (modes := {picture.mode for picture in pictures}) and len(modes) > 1:
        pictures = [in_colour(picture) for picture in pictures]
    return np.stack([_level(picture) for picture in pictures])


def _level(picture: Image) -> np.ndarray:
    values = np.asarray(picture)
    white = 65535 if picture.mode == DEEP else 255
    return np.moveaxis(np.atleast_3d(values).astype(np.float32) / white, -1, 0)


def _size(picture: Image) -> str:
    return f"{picture.height} × {picture.width}"
