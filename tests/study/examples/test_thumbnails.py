"""Thumbnails: small, upright, without metadata, and the same bytes again."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lossgauge.study.examples.thumbnails import thumbnail


def opened(record) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(record["data"])))


@pytest.mark.parametrize(
    ("size", "mode", "shown", "kind"),
    [
        ((8, 8), "L", (8, 8), "png"),
        ((28, 28), "RGB", (28, 28), "png"),
        ((92, 112), "L", (53, 64), "jpeg"),
        ((640, 480), "RGB", (64, 48), "jpeg"),
        ((3000, 2), "RGB", (64, 1), "jpeg"),
        ((1, 1), "L", (1, 1), "png"),
    ],
)
def test_a_thumbnail_fits_in_64_pixels_and_keeps_its_shape(size, mode, shown, kind):
    image = Image.effect_noise(size, 40).convert(mode)
    image.info = {"exif": b"Exif\0\0secret", "comment": b"secret"}
    record = thumbnail(image)
    small = opened(record)
    assert (small.size, small.mode, record["type"]) == (shown, mode, kind)
    assert b"secret" not in base64.b64decode(record["data"])
    assert thumbnail(image) == record
    assert image.size == size


def test_a_tiny_image_is_kept_pixel_by_pixel():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    assert np.array_equal(np.asarray(opened(thumbnail(Image.fromarray(pixels)))), pixels)
