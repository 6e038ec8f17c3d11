"""Small pictures of images, as a page shows them."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image

from lossgauge.types import Record

SIDE = 64
"""The longer side of a thumbnail, in pixels; a smaller image keeps its size."""

MOST = 400
"""Thumbnails of a dataset: about 0.6 MB of a page for photographs in color."""

_LOSSLESS_SIDE = 32
"""Up to this side a PNG is as small as a JPEG, and has no blur."""


def thumbnail(image: Image.Image) -> Record:
    """The picture as `type` and base64 `data`: a PNG of a tiny image, a JPEG of quality 75 of any other.

    It contains pixels only, no metadata. The same image gives the same bytes with one version of Pillow.
    """
    small = image.copy() if image.mode in ("L", "RGB") else image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.info = {}
    file = BytesIO()
    lossless = max(small.size) <= _LOSSLESS_SIDE
    if lossless:
        small.save(file, "PNG")
    else:
        small.save(file, "JPEG", quality=75, optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return {"type": "png" if lossless else "jpeg", "data": data}
