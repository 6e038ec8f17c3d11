"""One image as a backbone expects it: upright, eight bits per channel, grey or RGB."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from lossgauge.data.locations import Unreachable, reason_of
from lossgauge.errors import DataError

_MARKED = (
    "JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF", "ICO", "ICNS", "DDS", "PSD", "QOI",
    "SGI", "SUN", "BLP", "DCX", "FLI", "FTEX", "MSP", "PIXAR", "XBM", "XPM", "XVTHUMB",
)  # fmt: skip
"""Formats that begin with a unique signature, so they are recognised without a suffix."""
_UNMARKED = ("DIB", "PCX", "CUR", "GBR", "PCD", "TGA")
FORMATS = (*_MARKED, *_UNMARKED)
"""Formats that Pillow decodes by itself. Not EPS, for which it starts a program; not BUFR, GRIB, HDF5, WMF and MPEG,
which it only recognises; not FITS, SPIDER, MCIDAS and IPTC, which hold measurements; not IM and IMT, which it drops."""
# below Pillow's own limit, so that an accepted image never warns
LARGEST = 89_000_000
"""The most pixels an image may have."""

_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@cache
def suffixes() -> frozenset[str]:
    """The suffixes of `FORMATS`, in lower case."""
    Image.init()
    return frozenset(ext for ext, kind in Image.registered_extensions().items() if kind in FORMATS)


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix, else by its first bytes. It may still be damaged."""
    if path.suffix.lower() in suffixes():
        return not path.is_dir()
    # only a regular file: opening a pipe would wait for its writer
    if not path.is_file():
        return False
    try:
        with Image.open(path, formats=_MARKED):
            return True
    except _TOO_LARGE:
        return True
    except Exception:  # a decoder may raise anything for hostile bytes
        return False


def open_image(source: Path | bytes, name: str) -> Image.Image:
    """The image in a file or in bytes, decoded, in mode L or RGB, rotated as its EXIF says.

    16 bits are scaled to 8, CMYK and palettes become RGB, transparent parts become white, and of an animation
    the first frame is taken. Raises DataError that begins with `name` if it is damaged, larger than `LARGEST`
    or has 32 bits per channel; Unreachable if the file cannot be read now.
    """
    # reading a pipe would wait for ever
    if isinstance(source, Path) and not source.is_file():
        raise Unreachable(f"{name} is not a readable image (it is not a regular file)")
    try:
        with Image.open(
            BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        ) as image:
            # before the pixels are decoded: a header can claim any number of them
            _check_size(image, name)
            image.load()
            _check_size(
                image, name
            )  # the picture inside an icon may be larger than its header says
            plain = _grey_or_rgb(image)
            turn = _turn(image)
    except DataError:
        raise
    except MemoryError:
        raise Unreachable(f"{name} cannot be read now: there is not enough memory") from None
    except Exception as error:  # a decoder may raise anything for hostile bytes
        # Pillow's own errors about the bytes have no errno
        if isinstance(error, OSError) and error.errno is not None:
            raise Unreachable(f"{name} cannot be read now: {reason_of(error)}") from None
        raise DataError(f"{name} is not a readable image ({reason_of(error)})") from None
    plain.info = {}  # or the next reader of its EXIF would rotate it again
    return plain if turn is None else plain.transpose(turn)


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > LARGEST:
        raise DataError(
            f"{name} must have at most {LARGEST:,} pixels, got {image.width} × {image.height}"
        )


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
    except Exception:  # a photograph with damaged EXIF is still usable
        return None
