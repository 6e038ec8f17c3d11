"""One image as a backbone wants it: upright, eight bits a channel, grey or RGB."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from lossgauge.errors import DataError

# no EPS, for which Pillow starts a program
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP", "JPEG2000")
# below Pillow's own bound, so that what is accepted never warns
LARGEST = 89_000_000
"""Pixels of the largest image that is opened."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(source: Path | bytes, name: str) -> Image.Image:
    """The image in a file or in bytes, decoded, of mode L or RGB, turned as its EXIF asks.

    16 bits are scaled to 8; CMYK and palettes become RGB; transparency is laid on white; of an animation
    the first frame counts. Raises DataError that begins with `name` where it is no whole image, is larger
    than `LARGEST`, or has 32 bits a channel.
    """
    try:
        with Image.open(
            BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        ) as image:
            # before the pixels are asked for: a header can promise any number of them
            if image.width * image.height > LARGEST:
                raise DataError(
                    f"{name} must have at most {LARGEST:,} pixels, got {image.width} × {image.height}"
                )
            image.load()
            plain = _grey_or_rgb(image)
            turn = _turn(image)
    except DataError:
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise DataError(f"{name} is no readable image ({error})") from None
    plain.info = {}  # or the next reader of its EXIF would turn it again
    return plain if turn is None else plain.transpose(turn)


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _eight_bits(np.asarray(image))
    if image.mode == "F":
        raise ValueError("its pixels are floats, of unknown range")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def _eight_bits(values: np.ndarray) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have 32 bits")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a photograph with a damaged note is still a photograph
        return None
