"""Small datasets in the official layouts: names and formats as they are published, a few images each.

An image is a flat colour that no other has, so that its pixels tell whose they are.
"""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.io import savemat

Color = tuple[int, int, int]


class Photograph(NamedTuple):
    id: str
    label: int
    color: Color


def color_of(number: int) -> Color:
    return (20 * (number % 12) + 10, 20 * (number // 12) + 10, 255 - 10 * number)


def jpeg(color: Color | int, mode: str = "RGB", size: tuple[int, int] = (16, 8)) -> bytes:
    if mode == "CMYK":
        color = (*(255 - part for part in color), 0)
    stream = io.BytesIO()
    Image.new(mode, size, color).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def png16(value: int, size: tuple[int, int] = (16, 8)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full(size[::-1], value, np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of 70 bytes whose header promises any number of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def tar_gz(folder: Path, archive: Path) -> Path:
    """The folder as .tar.gz, under its own name."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return archive


def zipped(folder: Path, archive: Path, *, inside: bool = True) -> Path:
    """The folder as .zip, under its own name, or what it holds."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent if inside else folder))
    return archive


# --- CUB-200-2011: 4 classes of 2, 3, 2 and 1 birds; ids are shuffled against everything else

BIRDS = tuple(
    Photograph(f"{label:03}.Bird_{label}/Bird_{label}_{photo:04}.jpg", label, color_of(number))
    for number, (label, photo) in enumerate(
        [(3, 7), (1, 2), (2, 9), (2, 1), (4, 1), (1, 1), (2, 5), (3, 2)]
    )
)
"""In the order of their ids 1 … 8."""


def cub200(root: Path) -> Path:
    folder = root / "CUB_200_2011"
    for bird in BIRDS:
        write(folder / "images" / bird.id, jpeg(bird.color))
    lines = [f"{number} {bird.id}\n" for number, bird in enumerate(BIRDS, 1)]
    labels = [f"{number} {bird.label}\n" for number, bird in enumerate(BIRDS, 1)]
    write(folder / "images.txt", "".join(lines[::-1]))
    write(folder / "image_class_labels.txt", "".join(labels[3:] + labels[:3]))
    write(folder / "classes.txt", "".join(f"{n} {n:03}.Bird_{n}\n" for n in (1, 2, 3, 4)))
    write(folder / "train_test_split.txt", "".join(f"{n} {n % 2}\n" for n in range(1, 9)))
    return folder


# --- Stanford Cars: 4 classes; 5 images trained and 3 tested in the official split

CARS = tuple(
    Photograph(f"{side}/{photo:05}.jpg", label, color_of(number))
    for number, (side, photo, label) in enumerate(
        [
            ("train", 1, 4), ("train", 2, 1), ("train", 3, 3), ("train", 4, 1), ("train", 5, 2),
            ("test", 1, 2), ("test", 2, 4), ("test", 3, 3),
        ]
    )
)  # fmt: skip
CAR_NAMES = ("AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012", "Geo Metro", "BMW M3")
_BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def _struct(rows: list[dict]) -> np.ndarray:
    table = np.zeros((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for place, row in enumerate(rows):
        for name, value in row.items():
            table[name][0, place] = value
    return table


def _cell(names: tuple[str, ...]) -> np.ndarray:
    cell = np.empty((1, len(names)), dtype=object)
    cell[0] = names
    return cell


def cars_old(root: Path) -> Path:
    rows = []
    for number, car in enumerate(CARS, 1):
        name = f"car_ims/{number:06}.jpg"
        write(root / name, jpeg(car.color))
        boxes = dict.fromkeys(_BOX, 1)
        rows.append({"relative_im_path": name, **boxes, "class": car.label, "test": number % 2})
    rows = rows[5:] + rows[:5]
    savemat(
        root / "cars_annos.mat", {"annotations": _struct(rows), "class_names": _cell(CAR_NAMES)}
    )
    return root


def cars_new(root: Path) -> Path:
    for side, table in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "devkit/cars_test_annos_withlabels.mat"),
    ):
        cars = [car for car in CARS if car.id.startswith(side)]
        for car in cars:
            write(root / f"cars_{car.id}", jpeg(car.color))
        rows = [
            {**dict.fromkeys(_BOX, 1), "class": car.label, "fname": Path(car.id).name}
            for car in cars[::-1]
        ]
        (root / "devkit").mkdir(exist_ok=True)
        savemat(root / table, {"annotations": _struct(rows)})
    savemat(root / "devkit/cars_meta.mat", {"class_names": _cell(CAR_NAMES)})
    return root


def cars_kaggle(root: Path) -> Path:
    for side in ("train", "test"):
        cars = [car for car in CARS if car.id.startswith(side)]
        for car in cars:
            folder = CAR_NAMES[car.label - 1].replace("/", "-")
            write(root / "car_data/car_data" / side / folder / Path(car.id).name, jpeg(car.color))
        lines = [f"{Path(car.id).name},39,116,569,375,{car.label}\n" for car in cars[::-1]]
        write(root / f"anno_{side}.csv", "".join(lines))
    write(root / "names.csv", "".join(f"{name}\n" for name in CAR_NAMES))
    return root


# --- Tiny ImageNet: 3 classes, 2 images each to train on; 4 to test on

WNIDS = {
    "n02124075": "Egyptian cat",
    "n01443537": "goldfish, Carassius auratus",
    "n04067472": "reel",
}
RANKS = {wnid: rank for rank, wnid in enumerate(sorted(WNIDS))}
TINY_TRAIN = tuple(
    Photograph(f"train/{wnid}/{wnid}_{photo}.JPEG", RANKS[wnid], color_of(2 * number + photo))
    for number, wnid in enumerate(WNIDS)
    for photo in (0, 1)
)
TINY_VAL = tuple(
    Photograph(f"val/val_{number}.JPEG", RANKS[wnid], color_of(10 + number))
    for number, wnid in enumerate(["n04067472", "n02124075", "n01443537", "n02124075"])
)


def tiny_imagenet(root: Path) -> Path:
    folder = root / "tiny-imagenet-200"
    write(folder / "wnids.txt", "".join(f"{wnid}\n" for wnid in WNIDS))
    words = {"n00001740": "entity", **WNIDS}
    write(folder / "words.txt", "".join(f"{wnid}\t{word}\n" for wnid, word in words.items()))
    for wnid in WNIDS:
        write(folder / "train" / wnid / f"{wnid}_boxes.txt", f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
    for image in TINY_TRAIN:
        _, wnid, name = image.id.split("/")
        write(folder / "train" / wnid / "images" / name, jpeg(image.color, size=(64, 64)))
    wnid_of = {rank: wnid for wnid, rank in RANKS.items()}
    lines = []
    for image in TINY_VAL:
        name = Path(image.id).name
        write(folder / "val/images" / name, jpeg(image.color, size=(64, 64)))
        lines.append(f"{name}\t{wnid_of[image.label]}\t0\t32\t44\t62\n")
    write(folder / "val/val_annotations.txt", "".join(lines[::-1]))
    write(folder / "test/images/test_0.JPEG", jpeg((1, 2, 3), size=(64, 64)))
    return folder


# --- CIFAR-10: two images a batch, three to test on; pixel values count up, so that planes cannot be confused


def cifar_pixels(number: int) -> np.ndarray:
    return ((np.arange(32 * 32 * 3).reshape(32, 32, 3) + 7 * number) % 251).astype(np.uint8)


CIFAR_LABELS = (6, 9, 9, 4, 1, 1, 2, 7, 8, 3, 0, 5, 6)


def cifar10(root: Path) -> Path:
    folder = root / "cifar-10-batches-bin"
    records = [
        bytes([label]) + cifar_pixels(number).transpose(2, 0, 1).tobytes()
        for number, label in enumerate(CIFAR_LABELS)
    ]
    for batch in range(5):
        write(folder / f"data_batch_{batch + 1}.bin", b"".join(records[2 * batch : 2 * batch + 2]))
    write(folder / "test_batch.bin", b"".join(records[10:]))
    write(folder / "batches.meta.txt", "airplane\nautomobile\n")
    return folder
