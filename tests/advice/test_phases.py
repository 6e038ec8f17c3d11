"""From the question to the answer, on a few rows: the folder, a second call, a stop, and data that nothing can be said about."""

import html
import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lossgauge as lg
from lossgauge.advice.clock import Clock, Deadline, OutOfTime
from lossgauge.advice.phases import advise, default_folder, name_of
from lossgauge.advice.preparation import check_folder
from lossgauge.advice.question import Question
from lossgauge.deployment.choice import choose
from lossgauge.errors import CacheError, DataError, InputError, LossgaugeError
from lossgauge.files import write_json
from lossgauge.plan.yaml_file import load_plan
from lossgauge.report.output import write_page
from lossgauge.report.page import page
from lossgauge.results.reader import read_study
from tests.support.command_line import assert_refused, run_cli
from tests.support.studies import write_vectors


def a_question(folder, **changes):
    return Question(f"embeddings:{write_vectors(folder / 'vectors.npz')}", **changes)


def with_schedule(folder, question, *, candidates=1, epochs=3):
    """As if the time allowed only so much."""
    folder.mkdir(parents=True, exist_ok=True)
    schedule = {
        "sample": None,
        "rows": 360,
        "candidates": candidates,
        "epochs": epochs,
        "seconds": 1.0,
    }
    write_json(folder / "schedule.json", {"question": question._asdict(), **schedule})
    return folder


@pytest.fixture(autouse=True, scope="module")
def few_runs():
    """Two losses with two seeds each, no more seeds, and no page: it takes a second, and it is the one of any study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lossgauge.advice.phases.write_page", lambda view, path: path)
        patch.setattr("lossgauge.advice.phases.FINALISTS", 2)
        patch.setattr("lossgauge.advice.phases.SEEDS", 2)
        patch.setattr("lossgauge.advice.phases.MORE_SEEDS", ())
        yield


@pytest.fixture(scope="module")
def answered(tmp_path_factory, few_runs):
    """A question, its folder and its answer."""
    place = tmp_path_factory.mktemp("advice")
    question = a_question(place)
    folder = with_schedule(place / "out", question)
    return question, folder, advise(question, folder, jobs=1)


def test_the_answer_names_a_loss_with_settings_and_says_what_it_is_about(answered):
    question, folder, advice = answered
    assert advice.loss in lg.LOSSES
    assert {"learning_rate", "batch_size", "sampler"} <= advice.settings.keys()
    assert advice.complete
    assert advice.failed == 0
    topics = [sentence.topic for sentence in advice.sentences]
    assert topics[:2] == ["Train?", "Loss"]
    assert topics[-1] == "Scope"
    assert "head on frozen features" in advice.sentences[-1].text
    assert advice.loss in str(advice)
    assert json.loads((folder / "advice.json").read_text())["loss"] == advice.loss
    assert question.data == advice.data


def test_the_page_of_the_study_repeats_the_answer(answered):
    _, folder, advice = answered
    view = read_study(folder / "study")
    again = page(view)
    shown = re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]+>", "", again)))
    for sentence in advice.sentences:
        assert " ".join(sentence.text.split()) in shown, sentence.topic
    assert "for the best ranking (MAP@R)" in shown
    assert str(folder) not in again


def test_a_damaged_answer_is_not_shown(answered, tmp_path):
    _, folder, _ = answered
    copy = shutil.copytree(folder / "study", tmp_path / "copy")
    path = copy / "answer.json"
    path.write_text(path.read_text().replace("Train?", "Trust"))
    with pytest.raises(CacheError, match=r"answer\.json"):
        read_study(copy)


def test_its_study_file_and_its_run_are_those_of_the_answer(answered):
    _, folder, advice = answered
    plan = load_plan(folder / "winner-vectors.yaml")
    assert plan.losses[0].name == advice.loss
    assert plan.losses[0].settings == advice.settings
    summary = read_study(folder / "study").runs("embeddings:vectors.npz", _loss(folder, advice))
    assert advice.run.folder.endswith(str(summary[advice.run.seed]["run"]))
    exec(advice.code, {"lg": lg})
    choice = choose(read_study(folder / "study"))
    assert (choice.loss, choice.seed) == (advice.run.loss, advice.run.seed)


def _loss(folder, advice):
    view = read_study(folder / "study")
    return next(loss for loss in view.losses if loss.base == advice.run.loss)


def test_the_search_is_successive_halving_with_equal_epochs(answered):
    _, folder, _ = answered
    trials = read_study(folder / "search").results.trials
    epochs = [row["epochs"] for row in trials]
    # of 7 candidates, the best of each loss goes on
    assert sorted(epochs) == [1] * 7 + [3] * 7


def test_the_same_question_again_repeats_no_run_and_gives_the_same_answer(answered):
    question, folder, advice = answered
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/runs/*")}
    again = advise(question, folder, jobs=1)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/runs/*")} == before
    assert again.sentences == advice.sentences


class AfterRuns(Deadline):
    """Out of time after so many runs."""

    def __init__(self, runs):
        self._left = runs

    def _check(self):
        self._left -= 1
        if self._left < 0:
            raise OutOfTime


@pytest.mark.slow
def test_a_search_that_runs_out_of_time_gives_the_answer_so_far(tmp_path, monkeypatch):
    question = a_question(tmp_path)
    folder = with_schedule(tmp_path / "out", question)
    made = []

    def deadline(*_):
        made.append(None)
        # the first is that of the search: start, epoch and end of a trial, and some of the second
        return AfterRuns(5 if len(made) == 1 else 10_000)

    monkeypatch.setattr("lossgauge.advice.phases.Deadline", deadline)
    advice = advise(question, folder, jobs=1)
    assert not advice.complete
    assert "answer so far" in str(advice).replace("\n    ", " ")
    monkeypatch.undo()
    assert advise(question, folder, jobs=1).complete


@pytest.mark.slow
def test_without_a_finalist_the_best_on_the_slice_is_named(tmp_path, monkeypatch):
    question = a_question(tmp_path)
    folder = with_schedule(tmp_path / "out", question, epochs=1)
    made = []

    def deadline(*_):
        made.append(None)
        return AfterRuns(10_000 if len(made) == 1 else 1)

    monkeypatch.setattr("lossgauge.advice.phases.Deadline", deadline)
    with pytest.raises(LossgaugeError, match=r"no finalist ended .* is the best so far"):
        advise(question, folder, jobs=1)


def test_the_deadline_leaves_time_for_the_page():
    clock = Clock(100.0, 10.0, now=lambda: 200.0)
    assert clock.end == 100.0 + 600.0 - 20.0
    assert clock.left == 480.0
    assert clock.after(0.5) == 440.0
    assert Clock(100.0, 0.5).end == 100.0 + 30.0 - 7.5
    with pytest.raises(OutOfTime):
        Deadline(time.monotonic() - 1).start(None)
    Deadline(time.monotonic() + 1_000).start(None)


# input that is not enough, or wrong


def vectors(path, labels, **more):
    rows = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    np.savez(path, embeddings=rows, labels=np.asarray(labels), **more)
    return f"embeddings:{path}"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.repeat(np.arange(3), 2), "two classes, one of them with two samples"),
        (np.arange(60), "every label is there once: is it an id instead of a class"),
        (np.repeat(np.arange(3), 6), "too little data for advice"),
    ],
)
def test_too_little_data_is_one_clear_error(tmp_path, labels, words):
    data = vectors(tmp_path / "x.npz", labels)
    with pytest.raises(DataError, match=words) as raised:
        advise(Question(data), tmp_path / "out")
    assert "study" not in str(raised.value)
    assert "another split" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_three_rows_of_each_of_many_classes_are_enough(tmp_path, monkeypatch):
    """Test classes are unseen in training, so whole classes are held out. With the page."""
    monkeypatch.setattr("lossgauge.advice.phases.write_page", write_page)
    data = vectors(tmp_path / "x.npz", np.repeat(np.arange(120), 3))
    question = Question(data)
    folder = with_schedule(tmp_path / "out", question, epochs=1)
    advice = advise(question, folder, jobs=1)
    assert advice.settings["sampler"] == "m_per_class"
    assert load_plan(folder / "winner-x.yaml").samples_per_class == 2
    assert advice.loss in Path(advice.page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits", "--minutes", "0.1"), "minutes must be from 0.5"),
        (("digits", "--minutes", "nan"), "minutes must be from 0.5"),
        (("digits", "--goal", "fast"), "goal must be top1, ranking, diversity, speed"),
        (("digit",), "did you mean 'digits'?"),
        (("embeddings:missing.npz",), "missing.npz"),
        (("folder:",), "needs a path"),
    ],
)
def test_a_wrong_question_is_one_line_and_writes_nothing(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert_refused(run_cli("advise", *arguments), words)
    assert not list(tmp_path.iterdir())


def test_a_path_without_its_kind_of_data_is_told_what_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "x.npz").touch()
    assert_refused(run_cli("advise", "photos"), "for images, give folder:photos")
    assert_refused(run_cli("advise", "x.npz"), "give embeddings:x.npz")


def test_a_folder_with_the_answer_about_other_data_is_not_overwritten(tmp_path):
    question = a_question(tmp_path)
    folder = with_schedule(tmp_path / "out", question)
    before = (folder / "schedule.json").read_bytes()
    other = f"folder:{tmp_path / 'vectors'}"
    assert_refused(
        run_cli("advise", other, "--out", folder),
        f"not about {other}; give another folder with --out",
    )
    assert (folder / "schedule.json").read_bytes() == before
    same = question._replace(data=f"embeddings:{tmp_path}/./vectors.npz", minutes=3.0)
    check_folder(folder, same)
    check_folder(tmp_path / "new", same)
    top1 = question._replace(goal="top1")
    with pytest.raises(InputError, match="the answer for the goal ranking, not for top1; give"):
        check_folder(folder, top1)
    with pytest.raises(InputError, match=r"about embeddings and labels of .*not about .* and sku;"):
        check_folder(folder, question._replace(labels_name="sku"))
    check_folder(tmp_path / "new", top1)


def test_each_goal_has_a_folder_of_its_own():
    assert default_folder("folder:data/photos").name == "advise-photos"
    assert default_folder("folder:data/photos", "top1").name == "advise-photos-top1"


def test_study_files_are_called_after_their_data():
    assert name_of("folder:data/photos") == "photos"
    assert name_of("embeddings:x.npz") == "x"
    assert name_of("digits") == "digits"


def test_python_refuses_the_same(tmp_path):
    with pytest.raises(InputError, match="data must be text"):
        lg.advise(7)
    with pytest.raises(InputError, match="names no data"):
        lg.advise("")
    with pytest.raises(InputError, match="goal must be"):
        lg.advise("digits", goal="best", out=tmp_path)
    with pytest.raises(LossgaugeError, match="minutes must be"):
        lg.advise("digits", minutes=True, out=tmp_path)


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    question = a_question(tmp_path)
    done = run_cli("advise", question.data, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "180 training and 180 test rows, given split" in done.stdout
    assert "7 losses ×" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.npz"]


def test_a_table_with_other_names_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = np.load(write_vectors(tmp_path / "vectors.npz"))
    renamed = {"labels": "sku", "embeddings": "vector"}
    np.savez(tmp_path / "x.npz", **{renamed.get(key, key): made[key] for key in made})
    names = ("--embeddings-name", "vector", "--labels-name", "sku")
    done = run_cli("advise", "embeddings:x.npz", "--dry-run", *names)
    assert done.returncode == 0, done.stderr
    assert "180 training and 180 test rows" in done.stdout


def test_a_dry_run_of_a_folder_tries_a_few_images_and_extracts_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "cache"))
    for number in range(60):
        path = tmp_path / "photos" / f"c{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 4 * number).save(path)
    data = f"folder:{tmp_path / 'photos'}"
    done = run_cli("advise", data, "--dry-run", "--backbone", "pixels", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "30 training and 30 test rows, stratified split" in done.stdout
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_the_command_prints_the_answer_as_text_and_as_json(answered):
    question, folder, advice = answered
    line = ("advise", question.data, "--out", folder, "--quiet")
    text = run_cli(*line)
    assert text.returncode == 0, text.stderr
    assert text.stderr == ""
    assert f"take {advice.loss}" in text.stdout.replace("\n    ", " ")
    record = json.loads(run_cli(*line, "--json").stdout)
    assert record["loss"] == advice.loss
    assert record["run"]["folder"] == advice.run.folder
