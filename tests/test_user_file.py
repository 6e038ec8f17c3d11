import os
import sys
from pathlib import Path

import pytest

from lossgauge.errors import InputError
from lossgauge.user_file import files_of, import_file


def test_an_edited_file_runs_as_it_is_now_and_leaves_no_bytecode(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for value in ("1", "2"):
        file.write_text(f"VALUE = {value}\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))  # the same second, and the same size
        assert int(value) == import_file(file, shown="mine.py").VALUE
    assert list(tmp_path.iterdir()) == [file]


def test_an_encoding_named_in_the_file_is_used_and_its_errors_name_the_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_bytes("# -*- coding: latin-1 -*-\nWORD = 'é'\n".encode("latin-1"))
    assert import_file(file, shown="mine.py").WORD == "é"
    for content in (b"\xff\xff", b"def f(:", b"raise RuntimeError('no')", b"\0"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"'mine\.py' fails on import"):
            import_file(file, shown="mine.py")


@pytest.mark.parametrize("folder", ["mine", "../here/mine", "linked"])
@pytest.mark.parametrize("neighbour", ["near", "lossgauge_near", "package"])
def test_a_neighbour_belongs_to_the_file_whatever_way_the_folder_is_named(
    tmp_path, monkeypatch, folder, neighbour
):
    (tmp_path / "here" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Path("linked").symlink_to("mine")
    near = Path("mine", "package" if neighbour == "package" else "")
    near.mkdir(exist_ok=True)
    near /= "__init__.py" if neighbour == "package" else f"{neighbour}.py"
    near.write_text("VALUE = 1\n")
    file = Path(folder, "own.py")
    file.write_text(f"from {neighbour} import VALUE\n")
    assert import_file(file, shown="own.py").VALUE == 1
    assert files_of(file) == (file.resolve(), near.resolve())
    near.write_text("VALUE = 22\n")
    assert import_file(file, shown="own.py").VALUE == 22
    assert neighbour not in sys.modules


def test_a_file_that_leaves_by_sys_exit_is_named_and_ends_nothing(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(InputError, match=r"'mine\.py' fails on import: SystemExit: 0"):
        import_file(file, shown="mine.py")
