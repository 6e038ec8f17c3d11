"""The wheel and the sdist: built without a network, installed into an empty folder, and tried there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import lossgauge

ROOT = Path(__file__).parents[1]
SHIPPED = ("lossgauge", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
PATIENCE = 600.0
"""Seconds: a first study may compile the kernels."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, since building writes beside the sources."""
    folder = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(wheel, tmp_path_factory.mktemp("installed"))


def build(kind: str, source: Path, target: Path) -> Path:
    """What a hook of PEP 517 makes of a source tree."""
    done = run(sys.executable, "-c", BUILD, kind, str(target), cwd=source)
    return target / done.stdout.splitlines()[-1]


def install(wheel: Path, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, "--disable-pip-version-check", "--target", str(target), str(wheel), cwd=target)
    return target


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def try_command(installed: Path, place: Path, *arguments: str) -> str:
    """The output of the installed command in `place`, where no other copy of the package can be in its way."""
    # what `pip` writes as bin/lossgauge, less its first line
    code = "import sys; from lossgauge.__main__ import main; sys.exit(main())"
    return run(
        sys.executable,
        "-c",
        code,
        *arguments,
        cwd=place,
        PYTHONPATH=str(installed),
        LOSSGAUGE_CACHE=str(place / "cache"),
    ).stdout


def try_commands(installed: Path, place: Path, *commands: list[str]) -> list[str]:
    """The same for several commands in one process, which imports torch once."""
    code = """
import json, sys
from lossgauge.__main__ import main
for command in json.loads(sys.argv[1]):
    sys.argv[1:] = command
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    print("\\0")
"""
    environment = {"PYTHONPATH": str(installed), "LOSSGAUGE_CACHE": str(place / "cache")}
    done = run(sys.executable, "-c", code, json.dumps(commands), cwd=place, **environment)
    return done.stdout.split("\0\n")[:-1]


def package_files(folder: Path) -> set[str]:
    """Paths of the package's files below a folder that holds it."""
    return {
        path.relative_to(folder).as_posix()
        for path in (folder / "lossgauge").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.process
def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path, source: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (points,) = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        assert "lossgauge = lossgauge.__main__:main" in archive.read(points).decode()
    assert names == package_files(source)
    assert {"lossgauge/studies/demo.yaml", "lossgauge/report/templates/report.html"} <= names
    assert "lossgauge/py.typed" in names
    assert wheel.name == f"lossgauge-{lossgauge.__version__}-py3-none-any.whl"


@pytest.mark.process
def test_an_installed_wheel_runs_its_built_in_study_and_writes_its_page(
    installed: Path, tmp_path: Path
):
    where = "import lossgauge; print(lossgauge.__file__)"
    shown = run(sys.executable, "-c", where, cwd=tmp_path, PYTHONPATH=str(installed)).stdout
    assert Path(shown.strip()).parent == installed / "lossgauge"
    assert (installed / "bin" / "lossgauge").is_file()
    version = try_command(installed, tmp_path, "--version")
    assert version == f"lossgauge {lossgauge.__version__}\n"
    # a loss without a kernel: a new place of the package means compiling them again, which takes half a minute
    (tmp_path / "own.py").write_text("def pull(z, y):\n    return (z @ z.T).mean()\n")
    small = [f"--set={change}" for change in ("datasets=digits", "backbone=pixels", "seeds=1")]
    small += ["--set=epochs=1", "--set=losses=own.py:pull", "--set=question=Does the wheel work?"]
    study = ["study", "demo", *small]
    schema, dry, done = try_commands(installed, tmp_path, ["schema"], [*study, "--dry-run"], study)
    assert '"tune"' in schema
    assert "2 runs, 0 of them done in lossgauge-results/demo" in dry
    assert done.splitlines()[0] == "2 runs done, 0 reused, 0 failed"
    page = tmp_path / "lossgauge-results" / "demo" / "report.html"
    assert "Does the wheel work?" in page.read_text()


@pytest.mark.slow
@pytest.mark.process
def test_the_wheel_of_the_sdist_is_the_same_and_runs_the_whole_demo(
    source: Path, wheel: Path, tmp_path: Path
):
    sdist = build("build_sdist", source, tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    unpacked = tmp_path / "unpacked" / sdist.name.removesuffix(".tar.gz")
    again = build("build_wheel", unpacked, tmp_path)
    with zipfile.ZipFile(again) as first, zipfile.ZipFile(wheel) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())
        for name in first.namelist():
            if not name.endswith("/RECORD"):
                assert first.read(name) == second.read(name), name
    target = install(again, tmp_path / "installed")
    place = tmp_path / "place"
    place.mkdir()
    assert "48 runs" in try_command(target, place, "study", "demo", "--dry-run")
    done = try_command(target, place, "study", "demo")
    assert done.splitlines()[0] == "48 runs done, 0 reused, 0 failed"
    page = place / "lossgauge-results" / "demo" / "report.html"
    assert "orl-faces" in page.read_text()
