"""What the extractor lets out of an archive, and all that it does not."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from lossgauge.data import cub200
from lossgauge.data.archives import Limits, extract, find_within, unpack
from lossgauge.data.cache import default_cache
from lossgauge.data.locations import not_found
from lossgauge.errors import DataError
from tests.data.layouts import tar_gz, write, zipped

pytestmark = pytest.mark.usefixtures("away_from_home")


def tar_of(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                entry = tarfile.TarInfo(member[0])
                entry.size = len(member[1])
                tar.addfile(entry, io.BytesIO(member[1]))
    return path


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def archive_of(path: Path, *members: tuple[str, bytes]) -> Path:
    return (zip_of if path.suffix == ".zip" else tar_of)(path, *members)


def refused(archive: Path, match: str, limits: Limits | None = None) -> None:
    """It is refused, the message names the archive, and nothing is left of it."""
    into = archive.parent / "out" / "it"
    with pytest.raises(DataError, match=match) as caught:
        extract(archive, into, *([limits] if limits else []))
    assert str(archive) in str(caught.value)
    assert list(into.parent.iterdir()) == []


KINDS = pytest.mark.parametrize("kind", ["a.tar.gz", "a.zip"])


@pytest.mark.parametrize("pack", [tar_gz, zipped])
def test_files_and_folders_come_out_as_they_went_in(tmp_path: Path, pack):
    content = bytes(range(256)) * 9000
    write(tmp_path / "set" / "deep" / "er" / "big.bin", content)
    write(tmp_path / "set" / "a.txt", "hello")
    (tmp_path / "set" / "empty").mkdir()
    archive = pack(tmp_path / "set", tmp_path / "packed")
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out/set/deep/er/big.bin").read_bytes() == content
    assert (tmp_path / "out/set/a.txt").read_text() == "hello"
    assert (tmp_path / "out/set/empty").is_dir()
    assert len(list((tmp_path / "out").rglob("*"))) == 6


def test_a_plain_tar_and_names_that_begin_with_a_dot_are_read(tmp_path: Path):
    write(tmp_path / "set" / "a.txt", "hello")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "set", arcname=".")
    extract(tmp_path / "a.tar", tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "hello"


@KINDS
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("/etc/x", "an absolute path"),
        ("C:/x", "an absolute path"),
        ("C:x", "an absolute path"),
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a/../x", "leads out"),
        ("..\\x", "leads out"),
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, kind: str, name: str, what: str):
    refused(archive_of(tmp_path / kind, ("ok", b"1"), (name, b"2")), rf"its entry .* is .*{what}")
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "out" / "x").exists()


def test_a_file_without_a_name_is_refused(tmp_path: Path):
    refused(tar_of(tmp_path / "a.tar.gz", ("", b"2")), "its entry '' is a name that appears twice")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes):
    entry = tarfile.TarInfo("trap")
    entry.type, entry.linkname = kind, "../../secret"
    refused(tar_of(tmp_path / "a.tar.gz", ("ok", b"1"), entry), "'trap' is a link, a device")


def test_a_sparse_file_is_refused_since_it_grows_without_a_byte(tmp_path: Path):
    entry = tarfile.TarInfo("holes")
    entry.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}
    refused(tar_of(tmp_path / "a.tar.gz", entry), "'holes' is .* sparse")


def test_a_link_in_a_zip_is_refused(tmp_path: Path):
    entry = zipfile.ZipInfo("trap")
    entry.external_attr = 0o120777 << 16
    refused(zip_of(tmp_path / "a.zip", (entry, b"../../secret")), "'trap' is a link or a device")


@KINDS
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path: Path, kind: str):
    for members in (("a/b", "a/b"), ("a/b", "a//b"), ("a", "a/b"), ("a/b", "a")):
        archive = archive_of(tmp_path / kind, *((name, b"1") for name in members))
        refused(archive, r"its entry .* is a name that appears twice")


@KINDS
def test_more_entries_than_allowed_are_refused(tmp_path: Path, kind: str):
    archive = archive_of(tmp_path / kind, *((f"{n}", b"1") for n in range(4)))
    refused(archive, "more than 3 entries; stopped at the entry 3", Limits(entries=3))
    extract(archive, tmp_path / "whole", Limits(entries=4))


@KINDS
def test_more_bytes_than_allowed_are_refused_and_the_entry_is_named(tmp_path: Path, kind: str):
    content = b"".join(n.to_bytes(4, "big") for n in range(20_000))
    archive = archive_of(tmp_path / kind, ("small", b"1"), ("large", content))
    refused(
        archive,
        "unpacks to more than 50,000 bytes; stopped at the entry large",
        Limits(bytes=50_000),
    )


@KINDS
def test_a_ratio_bomb_is_refused(tmp_path: Path, kind: str):
    archive = archive_of(tmp_path / kind, ("bomb", bytes(5_000_000)))
    limits = Limits(ratio=100, free_bytes=100_000)
    refused(archive, r"unpacks to more than \d+,\d+ bytes; stopped at the entry bomb", limits)
    extract(archive, tmp_path / "whole", limits._replace(free_bytes=6_000_000))


def test_a_header_that_is_a_bomb_is_stopped_too(tmp_path: Path):
    entry = tarfile.TarInfo("long")
    entry.pax_headers = {"comment": "x" * 5_000_000}
    archive = tar_of(tmp_path / "a.tar.gz", entry)
    refused(archive, "unpacks to more than 100,000 bytes", Limits(ratio=1, free_bytes=100_000))


@KINDS
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_an_archive_that_was_cut_off_is_refused_and_leaves_nothing(
    tmp_path, kind: str, share: float
):
    noise = b"".join((n * n * 2654435761 % 2**32).to_bytes(4, "big") for n in range(30_000))
    archive = archive_of(tmp_path / kind, ("first", noise), ("second", noise[::-1]))
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    refused(archive, "cannot be unpacked")


def test_a_flipped_byte_is_found(tmp_path: Path):
    noise = b"".join((n * n * 2654435761 % 2**32).to_bytes(4, "big") for n in range(3_000))
    for kind in ("a.tar.gz", "a.zip"):
        archive = archive_of(tmp_path / kind, ("only", noise))
        content = bytearray(archive.read_bytes())
        content[len(content) // 2] ^= 0x10
        archive.write_bytes(bytes(content))
        refused(archive, "cannot be unpacked")


def test_a_locked_zip_and_other_files_are_refused(tmp_path: Path):
    archive = zip_of(tmp_path / "a.zip", ("x", b"1"))
    content = bytearray(archive.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + offset] |= 1
    archive.write_bytes(bytes(content))
    refused(archive, "cannot be unpacked .*encrypted")
    refused(write(tmp_path / "b.zip", "no archive"), "cannot be unpacked")
    refused(write(tmp_path / "c.gz", gzip.compress(b"no tar" * 200)), "cannot be unpacked")


def test_an_archive_is_unpacked_once_and_anew_when_it_changes(tmp_path: Path):
    archive = zip_of(tmp_path / "a.zip", ("x", b"1"))
    folder = unpack(archive)
    assert folder.is_relative_to(default_cache())
    (folder / "mark").touch()
    assert (unpack(archive) / "mark").exists()
    zip_of(archive, ("x", b"22"))
    assert (unpack(archive) / "x").read_bytes() == b"22"
    assert unpack(archive) != folder


def test_an_archive_of_another_md5_is_not_unpacked(tmp_path: Path):
    archive = zip_of(tmp_path / "a.zip", ("x", b"1"))
    with pytest.raises(DataError, match=r"a\.zip must have the MD5 00ff, got [0-9a-f]{32}"):
        unpack(archive, md5="00ff")
    assert not default_cache().exists()


def test_an_archive_without_the_dataset_or_with_another_archive_is_named(tmp_path: Path):
    archive = zip_of(tmp_path / "a.zip", ("set.tgz", b"1"))

    def nothing(folder: Path) -> Path:
        raise not_found(cub200.DATASET, folder)

    with pytest.raises(DataError, match=r"a\.zip is unpacked, but cub200 is not in .*: put CUB"):
        find_within(archive, nothing)
    with pytest.raises(DataError, match=r"a\.zip contains another archive, set\.tgz"):
        find_within(archive, lambda folder: folder / "set.tgz")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path):
    archive = zip_of(tmp_path / "a.zip", ("x", b"1"))
    write(tmp_path / "file", "in the way")
    with pytest.raises(DataError, match=r"a\.zip cannot be unpacked into .*file"):
        extract(archive, tmp_path / "file" / "out")


@KINDS
def test_hidden_files_and_notes_of_an_operating_system_stay_inside(tmp_path: Path, kind: str):
    archive = archive_of(
        tmp_path / kind,
        ("set/a.txt", b"hello"),
        ("set/._a.txt", b"note"),
        ("set/.DS_Store", b"note"),
        ("__MACOSX/set/._a.txt", b"note"),
        ("set/Thumbs.db", b"note"),
    )
    extract(archive, tmp_path / "in")
    assert [path.name for path in (tmp_path / "in").rglob("*")] == ["set", "a.txt"]
    # they are held to the same rules
    refused(archive_of(tmp_path / kind, ("__MACOSX/../../x", b"")), "leads out of its folder")
