"""Compiled code is kept whole, for this user alone, and nothing stops a process that cannot keep it."""

import ctypes
import fcntl
import multiprocessing
import os
import resource
import subprocess
import sys
from array import array

import pytest

from lossgauge.kernels import machine_code
from lossgauge.kernels.machine_code import address_of


def double(plan):
    plan[1] = 2 * plan[0]


def triple(plan):
    plan[1] = 3 * plan[0]


def result(address, number=7):
    cells = array("q", [number, 0])
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)(cells.buffer_info()[0])
    return cells[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine_code._Waiting, "seconds", machine_code.WAIT_SECONDS)
    machine_code._folder.cache_clear()
    machine_code._warn_once.cache_clear()
    yield tmp_path / "compiled"
    machine_code._folder.cache_clear()
    machine_code._warn_once.cache_clear()


def visible(folder):
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def forbid_compiling(monkeypatch):
    def compiled(function, name):
        raise AssertionError(f"{name} is compiled")

    monkeypatch.setattr(machine_code, "_compiled", compiled)


def test_what_was_compiled_is_read_the_next_time(folder, monkeypatch):
    assert result(address_of(double, name="double")) == 14
    (path,) = visible(folder)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (folder / ".lock").stat().st_mode & 0o777 == 0o600
    assert {file.name for file in folder.iterdir()} == {path.name, ".lock"}
    forbid_compiling(monkeypatch)
    monkeypatch.delattr(machine_code, "_turn")  # and nobody is waited for
    assert result(address_of(double, name="double")) == 14


def test_no_damaged_byte_is_run(folder, monkeypatch):
    address_of(double, name="double")
    (path,) = visible(folder)
    whole = path.read_bytes()
    head = len(whole.partition(b"\n")[0])
    places = [*range(head + 2), *range(head + 2, len(whole), 97)]
    damaged = [
        whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at in places for bit in (1, 128)
    ]
    damaged += [whole[:size] for size in (0, 1, head, head + 1, len(whole) - 1)] + [whole + b"\0"]
    for content in damaged:
        path.write_bytes(content)
        assert machine_code._read(path) is None
    assert result(address_of(double, name="double")) == 14
    forbid_compiling(monkeypatch)  # it was written again
    assert result(address_of(double, name="double")) == 14


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_could_write_is_not_run(folder, mode):
    address_of(double, name="double")
    (path,) = visible(folder)
    path.chmod(mode)
    assert machine_code._read(path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away: run as root")
def test_a_file_of_another_user_is_not_run(folder):
    address_of(double, name="double")
    (path,) = visible(folder)
    os.chown(path, 61_234, 61_234)
    assert machine_code._read(path) is None
    os.chown(path, 0, 0)
    assert machine_code._read(path) is not None
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    assert machine_code._read(path) is None


def test_without_a_folder_it_is_compiled_and_one_line_says_so(monkeypatch, folder, caplog):
    monkeypatch.setattr(machine_code, "private_folder", lambda name, first: None)
    assert result(address_of(double, name="double")) == 14
    assert result(address_of(triple, name="triple")) == 21
    assert len(caplog.messages) == 1
    assert "LOSSGAUGE_CACHE" in caplog.messages[0]


def test_on_a_full_disk_it_is_compiled_and_nothing_is_left_of_it(folder, caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        assert result(address_of(double, name="double")) == 14
        assert result(address_of(triple, name="triple")) == 21
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in folder.iterdir()] == [".lock"]
    assert len(caplog.messages) == 1
    assert "File too large" in caplog.messages[0]
    address_of(double, name="double")
    assert len(visible(folder)) == 1


def test_a_lock_that_is_not_given_back_stops_nobody_for_long(folder, monkeypatch, caplog):
    address_of(double, name="double")
    monkeypatch.setattr(machine_code._Waiting, "seconds", 0.1)
    with (folder / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert result(address_of(triple, name="triple")) == 21
        assert len(caplog.messages) == 1
        assert str(folder / ".lock") in caplog.messages[0]
        # it has waited once, and what is there needs no lock
        assert result(address_of(triple, name="triple again")) == 21
        assert result(address_of(double, name="double")) == 14
        assert len(caplog.messages) == 1
    assert len(visible(folder)) == 1
    address_of(triple, name="triple")
    assert len(visible(folder)) == 2


def _hold(lock, ready):
    file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    (lock.parent / ".double-0123456789abcdef").write_bytes(b"half of it")
    ready.set()
    multiprocessing.Event().wait()


def test_a_process_killed_while_it_compiles_blocks_nobody(folder, caplog):
    folder.mkdir(mode=0o700)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(folder / ".lock", ready))
    holder.start()
    assert ready.wait(60)
    holder.kill()
    holder.join()
    assert result(address_of(double, name="double")) == 14
    assert len(visible(folder)) == 1
    assert not caplog.messages


def test_a_draft_of_a_killed_process_is_replaced(folder):
    address_of(double, name="double")
    (path,) = visible(folder)
    path.rename(path.with_name(f".{path.name}"))
    with path.with_name(f".{path.name}").open("ab") as draft:
        draft.write(bytes(10_000))
    address_of(double, name="double")
    assert sorted(p.name for p in folder.iterdir()) == sorted([path.name, ".lock"])
    assert machine_code._read(path) is not None


def test_other_sources_compilers_or_processors_have_code_of_their_own(tmp_path, monkeypatch):
    key = machine_code._key.__wrapped__
    keys = [key("double"), key("triple")]
    for source in ("rows.py", "team.py"):
        (tmp_path / source).write_text("1")
    monkeypatch.setattr(machine_code, "files", lambda package: tmp_path)
    keys.append(key("double"))
    for source in ("rows.py", "team.py"):
        (tmp_path / source).write_text("2")
        keys.append(key("double"))
    for module in ("numba", "llvmlite"):
        monkeypatch.setattr(f"{module}.__version__", "0")
        keys.append(key("double"))
    codegen = machine_code.cpu_target.target_context.codegen()
    monkeypatch.setattr(type(codegen), "magic_tuple", lambda self: ("another", "processor", ""))
    keys.append(key("double"))
    assert len(set(keys)) == len(keys)
    (tmp_path / "notes.txt").write_text("no source")
    assert key("double") == keys[-1]


FOUR = """
import os
from tests.kernels.test_machine_code import double, triple, result
from lossgauge.kernels.machine_code import address_of
for names in (["double"], ["triple"], ["double", "triple"], ["triple", "double"]):
    child = os.fork()
    if child == 0:
        for name in names:
            function = {"double": double, "triple": triple}[name]
            function.__qualname__ = function.__name__ = "pieces"
            print(name, result(address_of(function, name=name)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_code_of_two_processes_does_not_mix_in_a_third(folder):
    """Each was the first that its process compiled: numba numbers their symbols alike.

    The processes are forked from one that has compiled nothing.
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder.parent)}
    done = subprocess.run(
        [sys.executable, "-c", FOUR], env=environment, capture_output=True, text=True, check=True
    )
    double, triple = "double 14", "triple 21"
    assert done.stdout.splitlines() == [double, triple, double, triple, triple, double]
    assert len(visible(folder)) == 2


def test_a_numba_that_keeps_its_code_to_itself_still_compiles(folder, monkeypatch, caplog):
    real = machine_code.cfunc

    class Closed:
        def __init__(self, made):
            self.made, self.address = made, made.address

    monkeypatch.setattr(
        machine_code, "cfunc", lambda kind: lambda function: Closed(real(kind)(function))
    )
    assert result(address_of(double, name="double")) == 14
    assert result(address_of(triple, name="triple")) == 21
    assert visible(folder) == []
    assert len(caplog.messages) == 1
    assert "this version of numba gives no access to its machine code" in caplog.messages[0]
