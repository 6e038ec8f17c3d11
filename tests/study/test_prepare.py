import pytest
from PIL import Image

from lossgauge.errors import DataError, InputError, PlanError
from lossgauge.export import export_study
from lossgauge.report.output import write_page
from lossgauge.results.reader import read_study
from lossgauge.study.prepare import prepare
from lossgauge.study.runner import run_study
from tests.support.studies import Quiet, small_plan

BROKEN_LOSS = """
import torch
class Breaks(torch.nn.Module):
    def forward(self, z, y):
        open(__file__ + "/no")
"""


def test_what_is_left_out_in_part_or_whole_is_told_once_and_stands_on_the_page(tmp_path, quiet):
    """Without the folders of this machine: they are nobody else's business."""
    home = tmp_path / "my disk, (new)"
    for label in ("ant", "bee"):
        (home / "pets" / label).mkdir(parents=True)
        for number in range(6):
            shade = 100 * (label == "bee") + 9 * number
            Image.new("L", (4, 3), shade).save(home / "pets" / label / f"{number}.png")
    (home / "pets" / "ant" / "notes.txt").write_text("small")
    (home / "pets" / "bee" / "5.png").write_bytes(b"no image")
    (home / "own.py").write_text(BROKEN_LOSS)
    names = [f"folder:{home / 'none'}", f"folder:{home / 'pets'}", f"folder:{home / 'gone'}"]
    plan = small_plan(
        datasets=f"['{names[0]}', '{names[1]}', '{names[2]}']",
        losses=f"['{home / 'own.py'}:Breaks', triplet]",
        sampler="m_per_class",
        samples_per_class=2,
        batch_size=5,
    )
    outcome = run_study(plan, tmp_path / "out", progress=quiet)
    assert list(quiet.missing) == [names[0], names[2]]
    assert outcome.left_out == read_study(tmp_path / "out").results.left_out
    told = [
        (row["dataset"], row["reason"].partition(";")[0], row["extent"]) for row in outcome.left_out
    ]
    assert told == [
        ("folder:none", "there is no file or folder none", "whole"),
        (
            "folder:pets",
            "left out because they are not images, or in a format that is not read (1): ant/notes.txt",
            "part",
        ),
        ("folder:pets", "left out because they cannot be read (1 of 12): bee/5.png", "part"),
        (
            "folder:pets",
            "batch_size 5 is not a multiple of samples_per_class 2: batches have 4 rows",
            "part",
        ),
        ("folder:gone", "there is no file or folder gone", "whole"),
    ]
    html = write_page(read_study(tmp_path / "out"), tmp_path / "page.html").read_text()
    for words in (
        "Notes on the data",
        "ant/notes.txt",
        "bee/5.png",
        "there is no file or folder none",
        "3 notes on the data",
    ):
        assert words in html
    export_study(tmp_path / "out", "csv", tmp_path / "csv")
    shown = html + "".join(path.read_text() for path in (tmp_path / "csv").iterdir())
    assert str(tmp_path) not in shown
    assert "my disk" not in shown


def test_what_stops_a_study_is_said_once(tmp_path, quiet):
    with pytest.raises(DataError) as caught:
        run_study(small_plan(datasets="cub200,cifar10"), tmp_path / "out", progress=quiet)
    assert quiet.missing == {}
    for name in ("cub200", "cifar10"):
        assert str(caught.value).count(f"{name} is not in") == 1


def test_a_dataset_with_too_many_unreadable_images_is_left_out(tmp_path, quiet):
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        for number in range(20):
            Image.new("L", (4, 3), 9 * number).save(tmp_path / label / f"{number}.png")
    for number in range(11):
        (tmp_path / "bee" / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match="more than 10 of its images and more than 1% of the 40"):
        run_study(small_plan(datasets=f"folder:{tmp_path}"), tmp_path / "out", progress=quiet)


def test_too_few_large_classes_are_an_error_that_names_the_key(tmp_path, quiet):
    plan = small_plan(sampler="m_per_class", samples_per_class=400, batch_size=800)
    with pytest.raises(PlanError, match=r"digits, sampler m_per_class: .*or small_classes: repeat"):
        run_study(plan, tmp_path / "out", progress=quiet)


def test_two_files_of_one_name_are_refused_in_one_line(tmp_path, quiet):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text("def pull(z, y):\n    return z.sum()\n")
    first, second = f"{tmp_path}/a/mine.py:pull", f"{tmp_path}/b/mine.py:pull"
    with pytest.raises(PlanError) as caught:
        run_study(small_plan(losses=f"{first},{second}"), tmp_path / "out", progress=quiet)
    assert str(caught.value) == (
        f"losses {first!r} and {second!r} would have the same name in the report, mine.py:pull; rename one of the files"
    )
    assert not (tmp_path / "out").exists()


def test_drawn_terms_are_for_losses_that_take_them_and_the_others_are_refused(tmp_path, quiet):
    plan = small_plan(losses="triplet,scl", sampler="drawn")
    with pytest.raises(InputError) as caught:
        run_study(plan, tmp_path / "out", progress=quiet)
    assert str(caught.value) == (
        "the sampler drawn gives one pair or triplet for each anchor, and scl needs a whole batch; "
        "use contrastive or triplet, or another sampler"
    )
    assert not (tmp_path / "out").exists()


def test_drawn_terms_reach_the_statistics_of_a_run(tmp_path, quiet):
    plan = small_plan(losses="contrastive,triplet", sampler="drawn", batch_size=32, epochs=3)
    outcome = run_study(plan, tmp_path / "out", progress=quiet)
    assert (outcome.done, outcome.failed, quiet.warnings) == (3, 0, {})
    rows = read_study(tmp_path / "out").results.summaries
    trained = [row for row in rows if row["loss"] != "untrained"]
    assert {row["term_count"] for row in trained} == {32}
    assert {row["skipped_anchor_ratio"] for row in trained} == {0}
    assert all(0 < row["term_active_ratio"] <= 1 for row in trained)


def test_a_sample_of_features_that_are_there_is_the_extracted_sample(tmp_path, monkeypatch):
    """So a study is the same whether the cache has all features or not."""
    plan = small_plan(sample=200)
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "one"))
    (extracted,), left_out = prepare(plan, progress=Quiet())
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "two"))
    prepare(small_plan(), progress=Quiet())
    (cut,), _ = prepare(plan, progress=Quiet())
    assert len(list((tmp_path / "two").iterdir())) == 1
    assert len(extracted.labels) == 200
    assert extracted.features.equal(cut.features)
    assert extracted.train.equal(cut.train)
    assert extracted.test.equal(cut.test)
    assert extracted.labels.equal(cut.labels)
    assert (extracted.fingerprint, dict(extracted.identity)) == (
        cut.fingerprint,
        dict(cut.identity),
    )
    assert "a class-balanced sample: 200 of its 1,797 rows" in str(left_out)


def test_the_sampler_of_one_loss_is_checked_too(tmp_path, quiet):
    plan = small_plan(losses="{triplet: null, scl: {sampler: drawn}}")
    with pytest.raises(InputError, match="the sampler drawn gives one pair"):
        run_study(plan, tmp_path / "out", progress=quiet)
