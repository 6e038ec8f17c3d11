import os
import sys

import pytest

from lossgauge.errors import InputError
from lossgauge.user_file import import_file


def test_an_edited_file_runs_as_it_is_now_and_leaves_no_bytecode(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for value in ("1", "2"):
        file.write_text(f"VALUE = {value}\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))  # the same second, and the same size
        assert int(value) == import_file(file, shown="mine.py").VALUE
    assert list(tmp_path.iterdir()) == [file]


def test_an_encoding_named_in_the_file_is_heeded_and_its_errors_are_its_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_bytes("# -*- coding: latin-1 -*-\nWORD = 'é'\n".encode("latin-1"))
    assert import_file(file, shown="mine.py").WORD == "é"
    for content in (b"\xff\xff", b"def f(:", b"raise RuntimeError('no')", b"\0"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"'mine\.py' fails on import"):
            import_file(file, shown="mine.py")
