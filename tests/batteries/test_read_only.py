"""A read-only installation without a home, under a fresh user id: every command works, or says one line."""

import importlib.util
import os
import pwd
import shutil
import site
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import lossgauge

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0,
        reason="only root can run as another user: sudo make test-slow",
    ),
]

LOSSES = ("contrastive", "triplet", "n_pair", "info_nce", "arcface", "scl", "ccl")
SMALL = [
    argument
    for setting in (
        "datasets=digits",
        "backbone=pixels",
        "losses=triplet,arcface",
        "seeds=2",
        "epochs=2",
    )
    for argument in ("--set", setting)
]


class Machine:
    """A copy of the package that nobody can write, a Python that everybody can run, and a user id without a name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = next(uid for uid in range(61_234, 65_000) if not _has_name(uid))
        self.work, self.temporary = folder / "work", folder / "tmp"
        for place in (self.work, self.temporary):
            place.mkdir()
            place.chmod(0o1777)
        self.python = self._install()

    def _install(self) -> str:
        libraries = [path for path in site.getsitepackages() if Path(path, "torch").is_dir()]
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        candidates = (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}")
        for number, python in enumerate(candidates):
            target = self.folder / f"venv{number}"
            made = (
                subprocess.run(
                    [python, "-m", "venv", "--without-pip", target],
                    capture_output=True,
                    check=False,
                )
                if Path(python).exists()
                else None
            )
            if made is None or made.returncode:
                continue
            packages = target / "lib" / version / "site-packages"
            shutil.copytree(
                Path(lossgauge.__file__).parent,
                packages / "lossgauge",
                ignore=shutil.ignore_patterns("__pycache__"),
            )
            # the libraries of this environment, without what is installed to be edited in it
            (packages / "libraries.pth").write_text("\n".join(libraries))
            subprocess.run(["chmod", "-R", "a+rX,a-w", target], check=True)
            own = str(target / "bin" / "python")
            with suppress(PermissionError):
                if self.run([own, "-c", "import torch, lossgauge"], home=None).returncode == 0:
                    return own
        pytest.skip(f"no Python {version} with this environment's libraries can be run by others")

    def environment(self, home: str | None, **more: str) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            **({} if home is None else {"HOME": home}),
            **more,
        }

    def run(
        self, command: list[str], *, home: str | None, **more: str
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            command,
            cwd=self.work,
            env=self.environment(home, **more),
            user=self.user,
            group=self.user,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def lossgauge(
        self, *arguments: str, home: str | None = None, **more: str
    ) -> subprocess.CompletedProcess:
        return self.run([self.python, "-m", "lossgauge", *arguments], home=home, **more)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


@pytest.fixture(scope="module")
def machine():
    folder = Path(tempfile.mkdtemp(prefix="lossgauge-read-only-"))
    folder.chmod(0o755)
    try:
        yield Machine(folder)
    finally:
        shutil.rmtree(folder)


def outcome(done: subprocess.CompletedProcess) -> str:
    """`works`, `one line`, or what is wrong."""
    if "Traceback" in done.stderr + done.stdout:
        return f"traceback: {done.stderr[-2000:]}"
    if done.returncode == 0:
        return "works"
    lines = done.stderr.strip().splitlines()
    if done.returncode == 2 and len(lines) == 1 and lines[0].startswith("lossgauge: "):
        return "one line"
    return f"exit code {done.returncode}: {done.stderr[-2000:]}{done.stdout[-2000:]}"


def test_every_command_works_without_a_home(machine, capsys):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    rows = rng.normal(size=(40, 8)) + 3 * np.eye(8)[labels]
    np.savez(machine.work / "rows.npz", embeddings=rows, labels=labels)
    (machine.work / "rows.npz").chmod(0o644)
    study = ["study", "demo", *SMALL, "--out", "study"]
    commands = [
        ["losses"],
        ["datasets"],
        ["schema"],
        ["cache", "ls"],
        *(["check", loss] for loss in LOSSES),
        ["check", "rows.npz"],
        ["features", "digits", "--backbone", "pixels"],
        ["features", "orl-faces"],
        ["cache", "ls"],
        ["cache", "verify"],
        [*study, "--dry-run"],
        study,
        ["study", "demo", *SMALL, "--out", "jobs", "--jobs", "2"],
        ["status", "study"],
        ["report", "study"],
        *(
            ["export", "study", "--to", to]
            for to in ("parquet", "csv", "mlflow", "wandb", "tensorboard")
        ),
        ["cache", "rm", "--all"],
        ["features", "digits", "--backbone", "clip-vit-b32"],  # its weights are not here
    ]
    bad, counts = [], Counter()
    for command in commands:
        done = machine.lossgauge(*command)
        found = outcome(done)
        counts[found.partition(":")[0]] += 1
        expected = "one line" if "clip-vit-b32" in command else "works"
        if found != expected or "BROKEN" in done.stdout or "Warning" in done.stderr:
            bad.append((command, found, done.stdout[-500:], done.stderr[-500:]))
    kept = machine.temporary / f"lossgauge-{machine.user}"
    with capsys.disabled():
        print(f"\nwithout a home: {len(commands)} commands, {dict(counts)}")
    assert not bad
    assert [path for path in (kept / "compiled").iterdir() if path.name.startswith("triplet")]
    for place in (kept, kept / "compiled"):
        assert (place.stat().st_mode & 0o777, place.stat().st_uid) == (0o700, machine.user)
    assert {path.name for path in machine.temporary.iterdir()} == {kept.name}
    assert {path.name for path in machine.work.iterdir()} == {"rows.npz", "study", "jobs"}


def test_every_kind_of_home_works_or_says_one_line(machine, capsys):
    closed = machine.folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "cache").mkdir()
    read_only = machine.folder / "read-only"
    read_only.mkdir(mode=0o755)
    own = machine.work / "own"
    own.mkdir()
    os.chown(own, machine.user, machine.user)
    squatted = machine.folder / "squatted"
    squatted.mkdir()
    squatted.chmod(0o1777)
    (squatted / f"torchinductor_uid_{machine.user}").touch()
    (squatted / f"lossgauge-{machine.user}").mkdir(mode=0o777)
    (squatted / f"lossgauge-{machine.user}").chmod(0o777)
    linked = machine.folder / "linked"
    linked.mkdir()
    linked.chmod(0o1777)
    (linked / f"lossgauge-{machine.user}").symlink_to(squatted)
    study = ("study", "demo", *SMALL, "--set", "losses=ccl", "--out", "small")
    assert machine.lossgauge(*study).returncode == 0
    homes: dict[str, tuple[str | None, dict[str, str]]] = {
        "HOME not set": (None, {}),
        "HOME=": ("", {}),
        "HOME=/": ("/", {}),
        "HOME=/nonexistent": ("/nonexistent", {}),
        "a file": (str(machine.work / "rows.npz"), {}),
        "closed": (str(closed), {}),
        "read-only": (str(read_only), {}),
        "its own": (str(own), {}),
        "no home, cache named": (None, {"LOSSGAUGE_CACHE": str(machine.work / "named")}),
        "no home, read-only cache": (None, {"LOSSGAUGE_CACHE": str(read_only / "cache")}),
        "no home, closed cache": (None, {"LOSSGAUGE_CACHE": str(closed / "cache")}),
        "no home, temporary folder is another's": (None, {"TMPDIR": str(squatted)}),
        "no home, temporary folder is a link": (None, {"TMPDIR": str(linked)}),
    }
    trackers = ("HOME not set", "HOME=/", "read-only", "no home, temporary folder is another's")
    commands = [
        ["datasets"],
        ["cache", "ls"],
        ["features", "digits", "--backbone", "pixels"],
        ["check", "arcface"],
        ["export", "small", "--to", "mlflow"],
        ["export", "small", "--to", "wandb"],
    ]
    bad, counts = [], Counter()
    for name, (home, more) in homes.items():
        for command in commands:
            if command[0] == "export" and name not in trackers:
                continue
            done = machine.lossgauge(*command, home=home, **more)
            found = outcome(done)
            counts[found.partition(":")[0]] += 1
            if found not in ("works", "one line") or "BROKEN" in done.stdout:
                bad.append((name, command, found))
            if command[0] in ("datasets", "check") and found != "works":
                bad.append((name, command, found, done.stderr))
            # on a busy machine an extraction says now and then how far it is
            lines = [
                line for line in done.stderr.splitlines() if not line.startswith("features of")
            ]
            if len(lines) > 1:
                bad.append((name, command, "more than a line", done.stderr))
    with capsys.disabled():
        print(f"\n{len(homes)} homes, {counts.total()} commands: {dict(counts)}")
    assert not bad
    assert not list((squatted / f"lossgauge-{machine.user}").iterdir())
    assert list((own / ".cache/lossgauge/compiled").iterdir())
    assert list((machine.work / "named/compiled").iterdir())


def test_ray_works_without_a_home(machine):
    study = ("study", "demo", *SMALL, "--out", "ray", "--engine", "ray", "--jobs", "2")
    done = machine.lossgauge(*study)
    assert outcome(done) == "works"
    assert "6 runs done, 0 reused, 0 failed" in done.stdout


READ_ONLY = """
set -e
mount --make-rprivate /
mount --bind / /
mount -o remount,ro,bind /
for place in $(awk '$3 == "tmpfs" && $2 != "/dev" {print $2}' /proc/mounts); do
    mount -o remount,ro,bind "$place" || true
done
[ -z "$VOLUME" ] || { mount -t tmpfs tmpfs "$VOLUME"; chmod 1777 "$VOLUME"; }
cd /
set +e
for command in "$@"; do
    echo "=== $command"
    setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups "$PYTHON" -m lossgauge $command 2>&1
    echo "=== code $?"
done
"""


def on_a_read_only_disk(machine, *commands: str, volume: Path | None = None, **more: str) -> str:
    """What the commands print where nothing can be written, or only the volume."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "OMP_NUM_THREADS": "1",
        "PYTHON": machine.python,
        "USER_ID": str(machine.user),
        "VOLUME": str(volume or ""),
        **more,
    }
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", *commands],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if "===" not in done.stdout:
        pytest.skip(f"no read-only disk can be had here: {done.stderr.strip()}")
    return done.stdout


def test_on_a_disk_that_is_read_only_altogether(machine, capsys):
    printed = on_a_read_only_disk(
        machine, "losses", "datasets", "check arcface", "cache ls", "features digits"
    )
    assert "Traceback" not in printed
    assert "BROKEN" not in printed
    # torch imports dill where it is installed, and dill needs a temporary folder while it is imported: see docs/log.md
    has_dill = importlib.util.find_spec("dill") is not None
    assert [line for line in printed.splitlines() if line.startswith("=== code")] == [
        f"=== code {code}" for code in ((2,) * 5 if has_dill else (0, 0, 0, 2, 2))
    ]
    # one line each; without dill: compiled code is not kept; no cache, twice
    assert printed.count("lossgauge: ") == (5 if has_dill else 3)

    # with one volume for results and the cache, and without dill no folder for temporary files
    volume = machine.folder / "volume"
    volume.mkdir()
    small = " ".join(SMALL)
    commands = [
        f"study demo {small} --out {volume}/study",
        f"study demo {small} --jobs 2 --out {volume}/jobs",
        f"report {volume}/study",
        *(f"export {volume}/study --to {to}" for to in ("csv", "mlflow", "wandb", "tensorboard")),
    ]
    printed = on_a_read_only_disk(
        machine,
        *commands,
        volume=volume,
        LOSSGAUGE_CACHE=str(volume / "cache"),
        **({"TMPDIR": str(volume)} if has_dill else {}),
    )
    codes = [line for line in printed.splitlines() if line.startswith("=== code")]
    with capsys.disabled():
        print(f"\na read-only disk: 5 commands; with a volume: {codes.count('=== code 0')} work")
    assert codes == ["=== code 0"] * len(commands), printed


TRY = """
import errno, fcntl, os, sys
folder = sys.argv[1]
for name in (".lock", "compiled/.lock", "compiled/new"):
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT):
        try:
            fcntl.flock(os.open(os.path.join(folder, name), flags), fcntl.LOCK_EX | fcntl.LOCK_NB)
            print("open", name)
        except PermissionError:
            print("refused")
try:
    os.rename(folder, folder + "-away")
    print("renamed")
except PermissionError:
    print("refused")
"""


def test_another_user_can_neither_lock_nor_fill_nor_move_the_folder(machine, capsys):
    assert machine.lossgauge("check", "arcface").returncode == 0
    kept = machine.temporary / f"lossgauge-{machine.user}"
    owner, machine.user = machine.user, machine.user + 1
    try:
        tried = machine.run([machine.python, "-c", TRY, str(kept)], home=None)
        assert tried.stdout.split() == ["refused"] * 7, tried.stdout + tried.stderr
        # and it has a folder of its own beside it
        assert machine.lossgauge("check", "arcface").returncode == 0
        assert (
            machine.temporary / f"lossgauge-{machine.user}/compiled"
        ).stat().st_uid == machine.user
    finally:
        machine.user = owner
    with capsys.disabled():
        print(
            "\nanother user: 7 tries to open, lock or move the folder of compiled code, 7 refused"
        )
