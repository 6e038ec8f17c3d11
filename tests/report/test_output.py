import errno
import os
import socket
from pathlib import Path

import pytest

from lossgauge import files
from lossgauge.errors import DiskError, InputError
from lossgauge.files import atomic_file, atomic_folder, remove_leftovers
from lossgauge.report import output
from lossgauge.report.output import GENERATOR, check_replaceable, write_page
from lossgauge.results.view import StudyView
from tests.support.forking import fork_script
from tests.support.made_up_study import no_results
from tests.support.waiting import wait_for

EMPTY = StudyView(no_results())


@pytest.fixture(autouse=True)
def short_page(monkeypatch):
    monkeypatch.setattr(output, "page", lambda view, claims, full: "the page")


def link(path: Path) -> None:
    path.with_name("target").write_text("old")
    path.symlink_to("target")


def dangling_link(path: Path) -> None:
    path.symlink_to("target")


def node(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no node can be made here")


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (link, "is a link"),
        (dangling_link, "is a link"),
        (os.mkfifo, "is a pipe"),
        (Path.mkdir, "is a folder"),
        (node, "is a device"),
        (bound_socket, "is a socket"),
    ],
)
def test_only_a_regular_file_is_written_over(tmp_path, monkeypatch, make, words):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = Path("page.html")
    make(path)
    before = {p: p.lstat() for p in tmp_path.iterdir()}
    with pytest.raises(
        InputError,
        match=f"page.html {words}, and a report can only replace a regular file; give another path$",
    ):
        write_page(EMPTY, path)
    after = {p: p.lstat() for p in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[p].st_ino == before[p].st_ino for p in before)
    if make is link:
        assert Path("target").read_text() == "old"


def test_a_page_replaces_a_file_and_appears_at_a_new_name_in_a_new_folder(tmp_path):
    for path in (tmp_path / "page.html", tmp_path / "deep" / ("x" * 250 + ".html")):
        assert write_page(EMPTY, path) == path
        assert write_page(EMPTY, path).read_text() == "the page"
        assert list(path.parent.glob(".*")) == []


def test_another_name_of_a_replaced_file_keeps_what_it_had(tmp_path):
    (tmp_path / "mine").write_text("old")
    os.link(tmp_path / "mine", tmp_path / "page.html")
    write_page(EMPTY, tmp_path / "page.html")
    assert (tmp_path / "mine").read_text() == "old"


def test_a_failed_write_leaves_the_old_page_and_no_scrap(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DiskError, match=r"cannot be written to .*report.html \(disk full\); "):
        write_page(EMPTY, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DiskError, match=r"cannot be written to .*another path"):
        write_page(EMPTY, tmp_path / "file" / "report.html")


def test_the_temporary_name_cannot_be_foreseen_and_a_planted_link_is_not_followed(
    tmp_path, monkeypatch
):
    names = set()
    for _ in range(3):
        with atomic_file(tmp_path / "page.html") as temporary:
            names.add(temporary.name)
            assert not temporary.is_symlink()
            temporary.write_text("new")
    assert len(names) == 3
    # a leftover that is a link leads nowhere: the link goes or stays, its target is as it was
    (tmp_path / "precious").write_text("mine")
    left = tmp_path / f"{files._prefix(tmp_path / 'page.html')}planted"
    left.symlink_to("precious")
    write_page(EMPTY, tmp_path / "page.html")
    assert (tmp_path / "precious").read_text() == "mine"


BREAKS_OFF = """
import signal, sys
from pathlib import Path
from lossgauge.files import atomic_file, atomic_folder
target = Path(sys.argv[1])
with (atomic_folder if sys.argv[2] == "folder" else atomic_file)(target) as made:
    (made / "part" if sys.argv[2] == "folder" else made).write_text("half")
    Path(sys.argv[3]).touch()
    signal.pause()
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path, kind):
    folder, ready = tmp_path / "folder", tmp_path / "ready"
    folder.mkdir()
    target = folder / "page"
    writer = fork_script(BREAKS_OFF, target, kind, ready)
    try:
        wait_for(ready.exists, process=writer)
        (left,) = folder.iterdir()
        (folder / ".new-other").write_text("another's")
        remove_leftovers(target)
        assert left.exists()
    finally:
        writer.kill()
        writer.wait()
    assert left.exists()
    remove_leftovers(target)
    assert [path.name for path in folder.iterdir()] == [".new-other"]


def test_a_writer_whose_new_file_is_taken_for_a_leftover_makes_another(tmp_path, monkeypatch):
    names = []

    def taken(**given: object) -> str:
        names.append(files.tempfile.mkdtemp(**given))
        if len(names) == 1:
            os.rmdir(names[0])
        return names[-1]

    monkeypatch.setattr(files, "_new_file", taken)
    with files._unfinished(tmp_path / "page", taken) as path:
        assert str(path) == names[1]
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "x").write_text("y")
    assert (tmp_path / "folder" / "x").read_text() == "y"


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_an_error_of_the_block_comes_out_and_leaves_nothing(tmp_path, writer):
    with pytest.raises(FileNotFoundError, match="inside"), writer(tmp_path / "target"):
        raise FileNotFoundError("inside")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"<!doctype html><p>mine", b'{"format": 3}'])
def test_a_file_that_is_not_a_report_is_not_replaced_by_one(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match="exists and is not a lossgauge report"):
        check_replaceable(tmp_path / "x")


def test_an_earlier_report_and_a_new_name_are_places_for_one(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "page", lambda view, claims, full: f"<head>{GENERATOR.decode()}")
    write_page(EMPTY, tmp_path / "page.html")
    check_replaceable(tmp_path / "page.html")
    check_replaceable(tmp_path / "new" / "page.html")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe"):
        check_replaceable(tmp_path / "pipe")
