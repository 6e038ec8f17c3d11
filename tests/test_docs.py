"""Everything that README and docs/ tell a reader to run: Python blocks, and each `lossgauge …` line.

A line that is not in `LINES` fails, and so does an entry that no page has. Placeholders (FOLDER, DATASET, FILE) and alternatives
(`a | b`) stand for the commands that are given there.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import typer
from PIL import Image

from tests.support.command_line import run_cli
from tests.support.documents import PAGES, ROOT, blocks, command_lines, text_of
from tests.support.studies import SMALL

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated"
)  # MLflow's use of SQLAlchemy

QUICK = "--set datasets=digits --set backbone=pixels --set seeds=1 --set epochs=2"
ONE_EPOCH = "--set epochs=1 --set seeds=1"


class Line(NamedTuple):
    """How a documented line is tried. Without anything: as it stands, within the quick suite."""

    quick: tuple[str, ...] = ()
    """What is run in its place."""
    whole: bool = False
    """The line takes over 20 s: as it stands, it is run with `make test-slow`."""
    only_parsed: str = ""
    """Why it cannot be run here."""


LINES: dict[str, Line] = {
    "lossgauge study demo": Line((f"lossgauge study demo {QUICK}",), whole=True),
    "lossgauge study demo | paper | FILE": Line(
        (f"lossgauge study paper {QUICK} --dry-run", "lossgauge study my.yaml")
    ),
    "--dry-run": Line(("lossgauge study my.yaml --dry-run",)),
    "--set tune.trials=20": Line(
        (
            f"lossgauge study my.yaml --set losses=triplet --set tune.trials=3 {ONE_EPOCH}",
            f"lossgauge study demo {QUICK} --dry-run --set tune.trials=20",
        )
    ),
    "--set sensitivity=0.25,0.5,2,4": Line(
        (
            f"lossgauge study my.yaml --set losses=triplet --set sensitivity=0.25,2 {ONE_EPOCH}",
            f"lossgauge study demo {QUICK} --dry-run --set sensitivity=0.25,0.5,2,4",
        )
    ),
    "--minutes 10": Line(("lossgauge study my.yaml --minutes 10",)),
    "lossgauge study my.yaml --minutes 10": Line(),
    "--jobs 2, --engine ray": Line(  # tests/study/test_engines.py and test_ray.py run studies so
        (
            "lossgauge study my.yaml --dry-run --jobs 2",
            "lossgauge study my.yaml --dry-run --engine ray",
        )
    ),
    "lossgauge status FOLDER": Line(),
    "lossgauge watch FOLDER": Line(only_parsed="serves until Ctrl-C: tests/watch"),
    "lossgauge report FOLDER": Line(
        ("lossgauge report FOLDER", "lossgauge report FOLDER --out FILE")
    ),
    "lossgauge report FOLDER --format latex --figures pdf": Line(
        ("lossgauge report FOLDER --format latex",)  # tests/report/paper draws
    ),
    "lossgauge report FOLDER --format md --format csv --figures svg --out paper": Line(
        ("lossgauge report FOLDER --format md --format csv --out paper",)
    ),
    "lossgauge report FOLDER --full": Line(),
    "lossgauge claims FOLDER": Line(),
    "lossgauge claims FOLDER --json": Line(),
    "lossgauge claims FOLDER OTHER": Line(("lossgauge claims FOLDER FOLDER",)),
    "lossgauge claims FOLDER --fail-on contradicted": Line(),
    "lossgauge compare FOLDER OTHER": Line(("lossgauge compare FOLDER FOLDER",)),
    "lossgauge compare FOLDER OTHER --json": Line(("lossgauge compare FOLDER FOLDER --json",)),
    "lossgauge claims FOLDER --claims my_claims.yaml": Line(),
    "lossgauge report FOLDER --claims my_claims.yaml": Line(),
    "lossgauge export FOLDER --to csv": Line(),
    "lossgauge schema": Line(),
    "lossgauge schema > study.schema.json": Line(("lossgauge schema",)),
    "lossgauge losses | datasets": Line(("lossgauge losses", "lossgauge datasets")),
    "lossgauge losses": Line(),
    "lossgauge datasets": Line(),
    "lossgauge features DATASET": Line(("lossgauge features digits",)),
    "lossgauge features DATASET --backbone NAME": Line(
        ("lossgauge features digits --backbone pixels",)
    ),
    "lossgauge features orl-faces --backbone my_backbone.py:Model": Line(),
    "lossgauge features fashion-mnist": Line(
        ("lossgauge features digits --backbone pixels",), whole=True
    ),
    "lossgauge check triplet": Line(),
    "lossgauge check embeddings.npz": Line(),
    "lossgauge check pairs:questions.jsonl": Line(),
    "lossgauge head FOLDER": Line(only_parsed="docs/deploy.md does it in Python"),
    "lossgauge head FOLDER --loss triplet --seed 0 --width 8 --onnx --out small": Line(
        only_parsed="run before `embed folder:photos`"
    ),
    "lossgauge embed folder:photos --head head --out photos.npz": Line(  # its photos are not 8 × 8
        (
            "lossgauge head FOLDER --loss triplet --seed 0 --width 8 --onnx --out head",
            "lossgauge embed digits --head head --out photos.npz",
            "lossgauge embed embeddings:features.npz --backbone pixels --head head --out table.npz",
        )
    ),
    "lossgauge embed embeddings:features.npz --backbone pixels --head head --out table.npz": Line(
        only_parsed="run after `embed folder:photos`"
    ),
    "lossgauge embed folder:photos --frozen --out frozen.npz": Line(
        ("lossgauge embed digits --backbone pixels --frozen --out frozen.npz",)
    ),
    "lossgauge advise pairs:questions.jsonl --minutes 5": Line(
        only_parsed="takes minutes: tests/advice/test_pairs.py"
    ),
    "lossgauge head FOLDER --out head": Line(only_parsed="docs/deploy.md does it in Python"),
    "lossgauge embed wordnet --frozen --head head --center": Line(
        only_parsed="as pairs:questions.jsonl"
    ),
    "lossgauge advise wordnet --minutes 10": Line(only_parsed="as pairs:questions.jsonl"),
    "lossgauge advise pairs:questions.jsonl": Line(only_parsed="as with --minutes"),
    "lossgauge study rag.yaml": Line(
        only_parsed="needs the sentence model: tests/deployment/test_text_adapter.py reads its file and runs such a study"
    ),
    "lossgauge head FOLDER --out head --sentence-transformers adapter": Line(
        only_parsed="tests/deployment/test_text_adapter.py does it"
    ),
    "lossgauge embed pairs:questions.jsonl --frozen --head head --out raw.npz": Line(
        (  # vectors need no model for texts
            "lossgauge embed pairs:vectors.jsonl --frozen --out raw.npz",
            "lossgauge diagnose raw-queries.npz --corpus raw-documents.npz --judgements raw-qrels.tsv",
        )
    ),
    **dict.fromkeys(
        (
            "lossgauge embed pairs:questions.jsonl --head head --out adapted.npz",
            "lossgauge embed pairs:questions.jsonl --head head --side query --out queries.npz",
            "lossgauge embed texts:passages.csv --head head --side document --out passages.npz",
            "lossgauge diagnose raw-queries.npz --corpus raw-documents.npz --judgements raw-qrels.tsv",
            "lossgauge diagnose raw-queries.npz --corpus raw-documents.npz --judgements raw-qrels.tsv --against adapted-queries.npz --against-corpus adapted-documents.npz",
            "lossgauge embed pairs:my-beir --head head --out found.npz",
            "lossgauge embed pairs:my-beir --frozen --head head --out raw.npz",
            "lossgauge diagnose found-queries.npz --corpus found-documents.npz --judgements found-qrels.tsv",
            "lossgauge embed pairs:questions.jsonl --frozen --head head --center --out centered.npz",
            "lossgauge embed pairs:my-beir --frozen --head head --center --out centered.npz",
            "lossgauge diagnose centered-queries.npz --corpus centered-documents.npz --judgements centered-qrels.tsv",
            "lossgauge embed texts:passages.csv --frozen --head head --side document --center-of centered-documents.npz --out new-passages.npz",
            "lossgauge diagnose raw-queries.npz --corpus raw-documents.npz --judgements my-beir/qrels/test.tsv --against found-queries.npz --against-corpus found-documents.npz",
        ),
        Line(only_parsed="tests/deployment/test_text_adapter.py runs these lines in their order"),
    ),
    "lossgauge embed pairs:PATH": Line(only_parsed="as the lines before"),
    "lossgauge study wordnet": Line(only_parsed="minutes: tests/plan reads its file"),
    "lossgauge study negatives": Line(only_parsed="minutes: tests/plan reads its file"),
    "lossgauge study width": Line(only_parsed="minutes: tests/plan reads its file"),
    "lossgauge embed DATA": Line(only_parsed="as the line before"),
    "lossgauge diagnose photos.npz": Line(("lossgauge diagnose x.npz",)),
    "lossgauge diagnose": Line(("lossgauge diagnose embeddings.npz",)),
    "lossgauge diagnose embeddings.npz": Line(),
    "lossgauge diagnose file.npz": Line(("lossgauge diagnose embeddings.npz",)),
    "lossgauge diagnose x.npz": Line(),
    "lossgauge diagnose embeddings.npz --against x.npz --page page.html": Line(),
    "lossgauge diagnose embeddings.npz --json --fail-on act": Line(
        ("lossgauge diagnose embeddings.npz --json",)  # the rows are random: a finding says so
    ),
    "lossgauge diagnose shards --engine ray": Line(
        only_parsed="starts a cluster: tests/diagnosis/test_on_ray.py does"
    ),
    "lossgauge diagnose queries.npz --corpus corpus.npz": Line(),
    "lossgauge diagnose queries.npz --corpus corpus.npz --judgements qrels.tsv": Line(),
    "lossgauge diagnose queries.npz --corpus corpus.npz --judgements qrels.tsv --page page.html": Line(
        only_parsed="tests/diagnosis/two_tables/test_command.py writes pages"
    ),
    "lossgauge diagnose queries.npz --corpus corpus.npz --judgements qrels.tsv --against queries2.npz --against-corpus corpus2.npz": Line(
        (
            "lossgauge diagnose queries.npz --corpus corpus.npz --judgements qrels.tsv --against queries.npz --against-corpus corpus.npz",
        )
    ),
    "lossgauge advise": Line(("lossgauge advise embeddings:x.npz --dry-run",)),
    "lossgauge advise folder:photos": Line(
        only_parsed="takes minutes: tests/advice runs it on a few rows"
    ),
    "lossgauge advise orl-faces --minutes 5": Line(only_parsed="as folder:photos"),
    "lossgauge advise fashion-mnist --minutes 10": Line(only_parsed="as folder:photos"),
    "lossgauge advise embeddings:x.npz --goal top1 --minutes 5": Line(
        ("lossgauge advise embeddings:x.npz --goal top1 --minutes 5 --dry-run",)
    ),
    "lossgauge advise digits --dry-run": Line(only_parsed="tests/advice makes dry runs"),
    "lossgauge study winner-photos.yaml": Line(
        only_parsed="written by `lossgauge advise`: tests/advice reads it as a study"
    ),
    "lossgauge check my_loss.py:Pull": Line(),
    "lossgauge cache ls | verify | rm": Line(
        (
            "lossgauge features digits --backbone pixels",
            "lossgauge cache ls",
            "lossgauge cache verify",
            "lossgauge cache rm digits",
        )
    ),
    "lossgauge study demo --set losses=triplet,my_loss.py:Pull": Line(
        (f"lossgauge study demo --set losses=triplet,my_loss.py:Pull {QUICK}",), whole=True
    ),
    "lossgauge study paper --set epochs=10 --set seeds=2": Line(
        (f"lossgauge study paper --set epochs=10 --set seeds=2 {QUICK}",), whole=True
    ),
    "lossgauge study two-losses": Line(
        (f"lossgauge study two-losses {ONE_EPOCH} --set datasets=toy:gaussians-halves",), whole=True
    ),
    "lossgauge study claims": Line(  # an hour: tests/plan reads its file, tests/study runs its keys
        (f"lossgauge study claims {QUICK} --dry-run",)
    ),
    "lossgauge study few-labels": Line(only_parsed="minutes; tests/plan reads its file"),
    "lossgauge study dose": Line(only_parsed="minutes; tests/plan reads its file"),
    "lossgauge study samplers": Line(only_parsed="minutes; tests/plan reads its file"),
    "lossgauge study small-batch": Line(only_parsed="minutes; tests/plan reads its file"),
    "lossgauge study weights-or-directions": Line(only_parsed="minutes; tests/plan reads its file"),
    "lossgauge study author-conventions": Line((f"lossgauge study author-conventions {QUICK}",)),
    "lossgauge study my.yaml --out results --jobs 2": Line(),
    "lossgauge study my.yaml --dry-run": Line(),
    "lossgauge study mine.yaml": Line((f"lossgauge study mine.yaml {ONE_EPOCH}",), whole=True),
    "lossgauge export FOLDER --to parquet": Line(),
    "lossgauge export FOLDER --to csv --out tables": Line(),
    "lossgauge export FOLDER --to mlflow --out tracking": Line(),
    "lossgauge export FOLDER --to wandb --out tracking": Line(),
    "MLFLOW_TRACKING_URI=https://mlflow.example.org lossgauge export FOLDER --to mlflow": Line(
        only_parsed="needs a network"
    ),
    "WANDB_MODE=online lossgauge export FOLDER --to wandb": Line(only_parsed="needs a network"),
    # the names of commands
    "lossgauge report": Line(("lossgauge report FOLDER",)),
    "lossgauge export": Line(("lossgauge export FOLDER",)),
}

FETCHES = ("download=True", ".from_pretrained(")
"""What a block that needs a network has in it. It is compiled, and the names that it imports are looked up."""


@pytest.fixture
def desk(
    tmp_path: Path,
    whole_study: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Path:
    """A working folder with all that the pages take for granted; finished studies only where they are named."""
    given = request.node.callspec.params
    text = (
        text_of(given["page"]) + "FOLDER"
        if "page" in given
        else " ".join((given["line"], *LINES[given["line"]].quick))
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lossgauge.deployment.costs.TIMED_NUMBERS", 1 << 12)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("FOLDER", "results/demo", "lossgauge-results/demo"):
        if name in text:
            shutil.copytree(whole_study, name)
    for example in ("my_loss.py", "my_backbone.py"):
        shutil.copy(ROOT / "examples" / example, example)
    Path("my.yaml").write_text(
        SMALL.replace("[digits]", '["embeddings:embeddings.npz"]').replace("backbone: pixels\n", "")
    )
    own_data = blocks(text_of("docs/your-own-data.md"))
    own_claims = blocks(text_of("docs/claims.md"))
    Path("my_claims.yaml").write_text(next(b.code for b in own_claims if b.language == "yaml"))
    Path("mine.yaml").write_text(next(block.code for block in own_data if block.language == "yaml"))
    write_own_data()
    return tmp_path


def write_own_data() -> None:
    """The images and embeddings of docs/your-own-data.md."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    for number in range(80):
        path = Path("pets", ("cat", "dog", "hen", "owl")[number % 4], f"{number}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    rows = generator.normal(size=(80, 16)).astype(np.float32)
    labels = np.arange(80) % 4
    for name in ("x.npz", "embeddings.npz"):
        np.savez(name, embeddings=rows, labels=labels, z=rows, who=labels)
    np.savez("corpus.npz", embeddings=generator.normal(size=(40, 16)).astype(np.float32))
    np.savez("queries.npz", embeddings=generator.normal(size=(25, 16)).astype(np.float32))
    Path("qrels.tsv").write_text("".join(f"{row}\t{row}\t1\n" for row in range(25)))
    np.savez("features.npz", embeddings=np.tile(rows, 4), labels=labels)
    questions = [{"query": f"question {n}", "positive": f"answer {n}"} for n in range(8)]
    Path("questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in questions))
    vectors = [{"query": row.tolist(), "positive": (row + 0.1).tolist()} for row in rows[:8]]
    Path("vectors.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in vectors))
    columns = {"embeddings": rows.tolist(), "labels": labels}
    pq.write_table(
        pa.table({**columns, "vector": columns["embeddings"], "product": labels}), "x.parquet"
    )


DOCUMENTED = {page: command_lines(text_of(page)) for page in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_every_line_of_a_page_is_known_here(page):
    unknown = [line for line in DOCUMENTED[page] if line not in LINES]
    assert not unknown, f"say in LINES of tests/test_docs.py how these are tried: {unknown}"


def test_every_entry_is_a_line_of_a_page():
    assert LINES.keys() == {line for lines in DOCUMENTED.values() for line in lines}


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_pages_works(line, desk):
    how = LINES[line]
    if how.only_parsed:
        parse(line)
        return
    for command in how.quick or (line,):
        done = run_cli(*parse(command))
        assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line, how in LINES.items() if how.whole])
def test_a_line_that_takes_long_works_as_it_stands(line, desk):
    done = run_cli(*parse(line))
    if line.endswith("fashion-mnist") and "not found" in done.stderr:
        pytest.skip("no FashionMNIST here: apt-get install dataset-fashion-mnist")
    assert done.returncode == 0, (done.stdout, done.stderr)


def parse(line: str) -> list[str]:
    """The arguments of a line, as the command line itself understands them: a wrong one raises."""
    words = shlex.split(line)
    arguments = words[words.index("lossgauge") + 1 :]
    root = typer.main.get_command(import_module("lossgauge.cli").app)
    group, rest = root, arguments
    context = root.make_context("lossgauge", list(arguments))
    while hasattr(group, "resolve_command"):
        name, group, rest = group.resolve_command(context, rest)
        context = group.make_context(name, list(rest), parent=context)
    return arguments


@pytest.mark.parametrize(
    "wrong", ["lossgauge studdy demo", "lossgauge study demo --epochs 3", "lossgauge cache list"]
)
def test_a_line_that_is_wrong_is_not_parsed(wrong):
    with pytest.raises(Exception, match=r"(?i)no such"):
        parse(wrong)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, desk):
    pytest.importorskip("pandas", reason="needs pandas: pip install 'lossgauge[pandas]'")
    run_cli("export", "FOLDER", "--out", "tables")
    names: dict[str, object] = {}
    for block in blocks(text_of(page)):
        if block.language != "python":
            continue
        # so that a traceback names the page and its line
        code = compile("\n" * (block.line - 1) + block.code, str(ROOT / page), "exec")
        if any(words in block.code for words in FETCHES):
            look_up_imports(block.code)
        else:
            exec(code, names)


def look_up_imports(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), {})


@pytest.mark.parametrize("page", PAGES)
def test_files_and_make_targets_that_a_page_names_exist(page):
    code = "".join(block.code for block in blocks(text_of(page)))
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\S+)", code, re.MULTILINE)) <= targets
    scripts = re.findall(r"^python (\S+\.py)|pytest (\S+\.py)", code, re.MULTILINE)
    assert all((ROOT / path).is_file() for pair in scripts for path in pair if path)
