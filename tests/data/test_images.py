"""What the one image reader makes of every kind of image."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossgauge.data import images
from lossgauge.data.images import open_image
from lossgauge.data.locations import Unreachable
from lossgauge.errors import DataError
from tests.data.layouts import bomb, jpeg, png16

RAMP = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


def encoded(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(open_image(content, "it"))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_stays_grey_and_rgb_stays_rgb(mode: str):
    image = open_image(encoded(Image.fromarray(RAMP).convert(mode)), "it")
    assert (image.mode, image.size) == (mode, (3, 2))
    assert np.array_equal(np.asarray(image.convert("L")), RAMP)


def test_a_file_is_read_as_its_bytes_are(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(RAMP)))
    assert np.array_equal(np.asarray(open_image(path, str(path))), RAMP)


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (257, 1), (128, 0), (129, 1), (32896, 128), (65535, 255)]
)
def test_sixteen_bits_are_scaled_to_eight_and_not_clipped(value: int, expected: int):
    image = open_image(png16(value), "it")
    assert image.mode == "L"
    assert set(np.asarray(image).flat) == {expected}


def test_32_bits_and_floats_are_refused_as_of_unknown_range():
    for values in (np.full((2, 2), 70_000, np.int32), np.full((2, 2), 0.5, np.float32)):
        with pytest.raises(DataError, match=r"^it is not a readable image \(its pixels"):
            open_image(encoded(Image.fromarray(values), "TIFF"), "it")


def test_cmyk_becomes_the_colour_it_prints():
    image = open_image(jpeg((200, 30, 90), "CMYK"), "it")
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - (200, 30, 90)).max() <= 3


def test_a_palette_becomes_its_colours():
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    indexed.putpalette([10, 20, 30, 200, 100, 0])
    assert pixels(encoded(indexed)).tolist() == [[[10, 20, 30], [200, 100, 0]]]


def test_what_is_transparent_is_white_whatever_colour_hides_below():
    half = np.array([[[9, 9, 9, 0], [100, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)
    assert pixels(encoded(Image.fromarray(half))).tolist() == [
        [[255, 255, 255], [100, 0, 0], [204, 204, 204]]
    ]
    grey = Image.fromarray(half[..., 2:])  # LA
    assert open_image(encoded(grey), "it").mode == "L"
    keyed = encoded(Image.fromarray(RAMP), transparency=40)
    assert pixels(keyed)[0].tolist() == [0, 255, 80]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_an_image_is_turned_as_its_exif_asks_and_only_once(kind: str, orientation: int):
    # the table of the EXIF standard: how the upright image is stored
    stored = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.T,
        6: np.rot90,
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }[orientation](RAMP)
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(
        Image.fromarray(np.ascontiguousarray(stored)).convert("RGB"), kind, exif=exif, **settings
    )
    image = open_image(content, "it")
    assert np.array_equal(np.asarray(image)[..., 0], RAMP)
    assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("note", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_a_damaged_exif_does_not_cost_the_photograph(note: bytes):
    content = encoded(Image.new("RGB", (4, 2), (50, 60, 70)), "JPEG", exif=note)
    assert open_image(content, "it").size == (4, 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image at all",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        jpeg((1, 2, 3), size=(64, 64))[:-200],
        encoded(Image.fromarray(np.tile(RAMP, (50, 50))))[:-60],
        jpeg((1, 2, 3))[:30],
        bomb(),
        bomb(9_000, 10_000),
        bomb(10_000, 10_000),
        bomb(2**31 - 1, 2**31 - 1),
    ],
    ids=["empty", "text", "eps", "cut jpeg", "cut png", "header", "bomb", "90 M", "100 M", "huge"],
)
def test_what_is_no_whole_image_is_refused_by_its_name(tmp_path, content: bytes):
    for source in (content, tmp_path / "x.jpg"):
        (tmp_path / "x.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"^pets/x\.jpg (is not a readable|must have at most)"):
            open_image(source, "pets/x.jpg")


def test_postscript_is_not_even_identified_since_pillow_would_start_a_program():
    content = encoded(Image.new("RGB", (4, 4)), "EPS")
    with pytest.raises(DataError, match="cannot identify"):
        open_image(content, "it")


def test_the_cap_holds_where_pillows_own_is_lifted(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(
        DataError, match=r"it must have at most 89,000,000 pixels, got 60000 × 60000"
    ):
        open_image(bomb(), "it")
    monkeypatch.setattr(images, "LARGEST", 5)
    with pytest.raises(DataError, match="at most 5 pixels, got 3 × 2"):
        open_image(encoded(Image.fromarray(RAMP)), "it")


def test_a_flipped_byte_gives_an_image_or_a_data_error():
    content = encoded(Image.fromarray(np.tile(RAMP, (9, 9))).convert("RGB"), "PNG")
    refused = 0
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        try:
            open_image(bytes(damaged), "it")
        except DataError:
            refused += 1
    assert refused > 10


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="it is not a readable image"):
        open_image(tmp_path / "gone.jpg", "it")


@pytest.mark.parametrize("source", ["gone.jpg", "pipe.jpg", "folder.jpg"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, source):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(Unreachable, match="it is not a readable image"):
        open_image(tmp_path / source, "it")


def test_a_disk_error_is_no_fault_of_the_image(tmp_path, monkeypatch):
    (tmp_path / "1.png").write_bytes(encoded(Image.fromarray(RAMP)))
    for error, words in (
        (
            OSError(5, "Input/output error", "/secret/1.png"),
            "it cannot be read now: Input/output error$",
        ),
        (MemoryError(), "it cannot be read now: there is not enough memory"),
    ):

        def refuse(*_, error=error, **__):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Image, "open", refuse)
            with pytest.raises(Unreachable, match=words):
                open_image(tmp_path / "1.png", "it")


def test_an_icon_whose_picture_is_larger_than_its_header_says_is_held_to_the_cap(monkeypatch):
    content = bytearray(encoded(Image.new("RGB", (64, 64)), "ICO", sizes=[(64, 64)]))
    content[6:8] = bytes([4, 4])
    monkeypatch.setattr(images, "LARGEST", 100)
    with pytest.raises(DataError, match=r"at most 100 pixels, got 64 × 64|not the expected size"):
        open_image(bytes(content), "it")


def test_the_formats_that_are_not_read_are_those_that_the_documentation_lists():
    Image.init()
    text = (Path(__file__).parents[2] / "docs" / "your-own-data.md").read_text()
    (listed,) = re.findall(
        r"^- Some formats are not read, although Pillow knows them: (.*?)\.$", text, re.M | re.S
    )
    # without what is said of them in parentheses
    names = set(re.findall(r"\b[A-Z0-9]{2,}\b", re.sub(r"\(.*?\)", "", listed, flags=re.S)))
    # a later Pillow may have given up some
    assert names >= Image.OPEN.keys() - set(images.FORMATS)
    assert not names & set(images.FORMATS)
