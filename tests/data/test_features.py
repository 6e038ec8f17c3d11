import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lossgauge.backbones import load_backbone
from lossgauge.data import cache as store
from lossgauge.data import load_dataset
from lossgauge.data.cache import default_cache
from lossgauge.data.features import centered, features
from lossgauge.data.locations import Unreachable
from lossgauge.errors import CacheError, DataError
from tests.support.forking import fork_script, forked_pool


@pytest.fixture
def digits():
    return load_dataset("digits")


def extract(images, cache, **settings):
    return features(images, load_backbone("pixels"), cache=cache, **settings)


def test_features_are_those_of_the_backbone_in_the_order_of_the_dataset(digits, tmp_path):
    found = extract(digits, tmp_path)
    assert found.features.shape == (1797, 64)
    for row in (0, 255, 256, 1796):
        expected = torch.from_numpy(np.array(digits.read(row), dtype=np.float32).ravel() / 255)
        torch.testing.assert_close(found.features[row], expected)
    assert found.labels.tolist() == digits.labels.tolist()


def test_the_second_time_nothing_is_extracted_and_a_refresh_extracts_anew(digits, tmp_path):
    seen = []
    extract(digits, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1797, 1797)
    seen.clear()
    again = extract(digits, tmp_path, progress=lambda done, total: seen.append(done))
    assert seen == []
    torch.testing.assert_close(again.features, extract(digits, tmp_path, refresh=True).features)


def test_other_images_make_another_entry(digits, tmp_path):
    extract(digits, tmp_path)
    extract(dataclasses.replace(digits, digest="another"), tmp_path)
    assert len(entries_in(tmp_path)) == 2


def test_another_split_uses_the_same_features_under_another_fingerprint(digits, tmp_path):
    one = extract(digits, tmp_path)
    two = extract(dataclasses.replace(digits, train=digits.test, test=digits.train), tmp_path)
    assert len(entries_in(tmp_path)) == 1
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("name", ["shard-00000.safetensors", "manifest.json"])
@pytest.mark.parametrize("place", [0, 1, 100, -2])
def test_a_flipped_byte_anywhere_is_found_and_the_file_is_named(digits, tmp_path, name, place):
    extract(digits, tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(CacheError, match="is damaged") as caught:
        extract(digits, tmp_path)
    assert str(path) in str(caught.value)
    assert "lossgauge cache rm digits-pixels" in str(caught.value)


SHARD = {"file": "shard-00000.safetensors", "rows": 1, "next_image": 1, "skipped": [], "sha256": ""}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "1",
        '{"identity": {}}',
        '{"identity": {}, "shards": [1]}',
        '{"identity": [], "shards": []}',
        json.dumps({"identity": {}, "shards": [{**SHARD, "rows": "many"}]}),
        json.dumps({"identity": {}, "shards": [{**SHARD, "rows": -1}]}),
        json.dumps({"identity": {}, "shards": [{**SHARD, "skipped": {}}]}),
        json.dumps({"identity": {}, "shards": [{**SHARD, "file": "../../elsewhere"}]}),
        '{"identity": {}, "shards": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda text: text[:60],
)
def test_a_manifest_of_other_types_is_refused_though_its_checksum_is_right(digits, tmp_path, text):
    extract(digits, tmp_path)
    (path,) = tmp_path.glob("*/manifest.json")
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(f"{text}\n{digest}\n")
    with pytest.raises(CacheError, match="another version of lossgauge wrote it"):
        extract(digits, tmp_path)
    assert [entry.rows for entry in store.entries(tmp_path)] == [None]
    # a journal of that kind is no draft to go on from
    path.parent.rename(tmp_path / f".{path.parent.name}.draft")
    (tmp_path / f".{path.parent.name}.draft" / "journal.jsonl").write_text(f"{text} {digest}\n")
    seen = []
    extract(digits, tmp_path, progress=lambda done, total: seen.append(done))
    assert seen[-1] == 1797


@pytest.mark.parametrize("name", ["shard-00000.safetensors", "manifest.json"])
def test_a_pipe_in_the_cache_is_not_waited_for(digits, tmp_path, name):
    extract(digits, tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CacheError, match="is damaged"):
        extract(digits, tmp_path)


@pytest.mark.parametrize("name", ["shard-00000.safetensors", "manifest.json"])
def test_a_file_cut_short_or_gone_is_found(digits, tmp_path, name):
    extract(digits, tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CacheError, match="is damaged"):
        extract(digits, tmp_path)
    path.unlink()
    with pytest.raises(CacheError, match="is damaged"):
        extract(digits, tmp_path)
    extract(digits, tmp_path, refresh=True)
    extract(digits, tmp_path)


def test_an_entry_of_other_images_under_this_name_is_not_believed(digits, tmp_path):
    extract(digits, tmp_path)
    (ours,) = tmp_path.iterdir()
    other = dataclasses.replace(digits, digest="another")
    extract(other, tmp_path)
    (theirs,) = set(tmp_path.iterdir()) - {ours}
    for name in ("shard-00000.safetensors", "manifest.json"):
        (ours / name).write_bytes((theirs / name).read_bytes())
    with pytest.raises(CacheError, match="it belongs to other images"):
        extract(digits, tmp_path)


def unreadable(images, *rows):
    """The same images, some of which cannot be read."""

    def read(row):
        if row in rows:
            raise DataError(f"image {row} is no image")
        return images.read(row)

    return dataclasses.replace(images, read=read)


def entries_in(cache):
    return [path for path in cache.iterdir() if path.is_dir()]


def unreachable(images, row_of_it):
    """The same images, of which the disk does not give one."""

    def read(row):
        if row == row_of_it:
            raise Unreachable(f"image {row} cannot be read now: Input/output error")
        return images.read(row)

    return dataclasses.replace(images, read=read)


def test_an_image_that_the_disk_does_not_give_stops_the_dataset_and_makes_no_entry(
    digits, tmp_path
):
    with pytest.raises(DataError, match="image 700 cannot be read now"):
        extract(unreachable(digits, 700), tmp_path)
    assert entries_in(tmp_path) == []


@pytest.mark.parametrize(
    "bad", [[0], [700], [1795, 1796], [3, 4, 500, 1730], list(range(1780, 1797))]
)
def test_images_that_cannot_be_read_are_left_out_counted_and_named(digits, tmp_path, bad):
    found = extract(unreadable(digits, *bad), tmp_path)
    whole = extract(digits, tmp_path / "whole")
    kept = [row for row in range(1797) if row not in bad]
    assert torch.equal(found.features, whole.features[kept])
    assert torch.equal(found.labels, whole.labels[kept])
    assert found.identity["skipped"] == str(len(bad))
    assert len(found.train) + len(found.test) == len(kept)
    for side, rows in (("train", whole.train), ("test", whole.test)):
        expected = [int(row) for row in rows if int(row) not in bad]
        assert torch.equal(found.features[getattr(found, side)], whole.features[expected])
    assert found.fingerprint != whole.fingerprint
    assert whole.notes == ()
    (note,) = found.notes
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    assert note == (
        f"left out because they cannot be read ({len(bad)} of 1,797): {', '.join(map(str, bad[:3]))}{more}"
    )
    # the cache says it again
    assert extract(unreadable(digits, *bad), tmp_path).notes == found.notes


def first_rows(images, count):
    """The same images, of which there are fewer."""
    return dataclasses.replace(
        images,
        ids=images.ids[:count],
        labels=images.labels[:count],
        train=np.arange(0, count, 2),
        test=np.arange(1, count, 2),
    )


@pytest.mark.parametrize(
    ("total", "bad", "stops"),
    [(1797, 17, False), (1797, 18, True), (400, 10, False), (400, 11, True), (1100, 11, False)],
)
def test_more_than_ten_and_more_than_a_hundredth_of_unreadable_images_stop_a_dataset(
    digits, tmp_path, total, bad, stops
):
    rows = np.linspace(0, total - 1, bad).astype(int).tolist()
    images = unreadable(first_rows(digits, total), *rows)
    if not stops:
        assert len(extract(images, tmp_path).features) == total - bad
        return
    words = (
        r"more than 10 of its images and more than 1% of the .* 0, \d+, \d+ and \d+ more \(image"
    )
    with pytest.raises(DataError, match=words):
        extract(images, tmp_path)
    assert entries_in(tmp_path) == [] or all(
        path.name.startswith(".") for path in entries_in(tmp_path)
    )


def test_a_side_that_loses_too_much_is_refused(digits, tmp_path):
    few = dataclasses.replace(first_rows(digits, 8), labels=np.repeat([0, 1], 4))
    with pytest.raises(
        DataError, match=r"needs two classes, .* digits without its unreadable images leaves 1"
    ):
        extract(unreadable(few, 1, 3, 5), tmp_path)


def test_without_one_readable_image_there_is_nothing_to_extract(digits, tmp_path):
    few = first_rows(digits, 8)
    with pytest.raises(DataError, match=r"none of the 8 images .*: 0, 1, 2 and 5 more"):
        extract(unreadable(few, *range(8)), tmp_path)


@pytest.mark.parametrize(
    "bad", [[5], [100, 300, 301], [0, 640, 641, 1796], [*range(195, 200), 1000]]
)
@pytest.mark.parametrize("stop", [1, 640, 1000, 1790])
def test_an_extraction_with_unreadable_images_goes_on_with_each_image_once(
    digits, tmp_path, monkeypatch, bad, stop
):
    """Rows before the cut are fewer than images: who goes on from their number takes some twice."""
    monkeypatch.setattr("lossgauge.data.features.SHARD_BYTES", 64 * 64 * 4 * 3)  # three batches
    images = unreadable(digits, *bad)
    with pytest.raises(DataError, match="cannot be read now"):
        extract(unreachable(images, stop), tmp_path)
    seen = []
    found = extract(images, tmp_path, progress=lambda done, total: seen.append(done))
    whole = extract(digits, tmp_path / "whole")
    kept = [row for row in range(1797) if row not in bad]
    assert torch.equal(found.features, whole.features[kept])
    assert torch.equal(found.labels, whole.labels[kept])
    assert found.identity["skipped"] == str(len(bad))
    assert seen[0] > stop - 192 - 2 * len(bad)
    # read from the cache, with images skipped in any of several shards
    assert len(list(tmp_path.glob("digits*/shard-*"))) > 5
    again = extract(images, tmp_path)
    assert torch.equal(again.features, found.features)
    assert torch.equal(again.labels, found.labels)


def test_unreadable_images_before_a_stop_count_too(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("lossgauge.data.features.SHARD_BYTES", 64 * 64 * 4)
    images = unreadable(digits, *range(10), *range(1000, 1008))
    with pytest.raises(DataError, match="cannot be read now"):
        extract(unreachable(images, 900), tmp_path)
    with pytest.raises(DataError, match="more than 10 of its images"):
        extract(images, tmp_path)


@pytest.mark.parametrize("stop", [1, 640, 1000, 1790])
def test_an_extraction_that_stopped_goes_on_from_its_last_whole_shard(
    digits, tmp_path, monkeypatch, stop
):
    monkeypatch.setattr("lossgauge.data.features.SHARD_BYTES", 64 * 64 * 4 * 3)  # three batches
    with pytest.raises(DataError):
        extract(unreachable(digits, stop), tmp_path)
    read = []

    def noted(row):
        read.append(row)
        return digits.read(row)

    found = extract(dataclasses.replace(digits, read=noted), tmp_path)
    assert min(read) == stop // 192 * 192
    assert torch.equal(found.features, extract(digits, tmp_path / "whole").features)


@pytest.mark.parametrize("damage", ["flip", "cut", "lost", "journal cut", "journal flip"])
def test_a_draft_goes_on_only_from_what_is_whole(digits, tmp_path, monkeypatch, damage):
    monkeypatch.setattr("lossgauge.data.features.SHARD_BYTES", 64 * 64 * 4)
    with pytest.raises(DataError):
        extract(unreachable(digits, 1000), tmp_path)
    (draft,) = tmp_path.glob(".*.draft")
    path = draft / ("journal.jsonl" if "journal" in damage else "shard-00005.safetensors")
    content = bytearray(path.read_bytes())
    if damage == "lost":
        path.unlink()
    elif "cut" in damage:
        path.write_bytes(content[: len(content) * 2 // 3])
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    found = extract(digits, tmp_path)
    assert torch.equal(found.features, extract(digits, tmp_path / "whole").features)


_KILLED = """
import os, sys
from pathlib import Path
from lossgauge.backbones import load_backbone
from lossgauge.data import load_dataset
from lossgauge.data import features as module
module.SHARD_BYTES = 64 * 64 * 4
batches = 0
def die(done, total):
    global batches
    batches += 1
    if batches == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
module.features(load_dataset("digits"), load_backbone("pixels"), cache=Path(sys.argv[1]), progress=die)
"""


def test_a_killed_extraction_is_taken_up_by_the_next(digits, tmp_path):
    process = fork_script(_KILLED, tmp_path, 40)
    assert process.wait() == -9, process.output
    seen = []
    found = extract(digits, tmp_path, progress=lambda done, total: seen.append(done))
    assert seen[0] > 1000
    assert torch.equal(found.features, extract(digits, tmp_path / "whole").features)
    assert len(entries_in(tmp_path)) == 2  # the entry, and `whole`


def test_images_of_two_sizes_are_refused_by_a_backbone_that_needs_one(digits, tmp_path):
    def read(row):
        return Image.new("L", (9, 8)) if row >= 256 else digits.read(row)

    with pytest.raises(DataError, match=r"one size, got \(8, 8\) and, for 256 of digits, \(8, 9\)"):
        extract(dataclasses.replace(digits, read=read), tmp_path)


@pytest.mark.parametrize("name", ["shard-00000.safetensors", "manifest.json"])
def test_a_lost_file_is_the_one_that_is_named(digits, tmp_path, name):
    extract(digits, tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    path.unlink()
    with pytest.raises(CacheError) as caught:
        extract(digits, tmp_path)
    assert str(caught.value).startswith(f"{path} is damaged")


def test_a_refresh_that_fails_leaves_the_old_entry(digits, tmp_path):
    before = extract(digits, tmp_path)

    def read(row):
        raise Unreachable("no image")

    with pytest.raises(DataError, match="no image"):
        extract(dataclasses.replace(digits, read=read), tmp_path, refresh=True)
    assert torch.equal(extract(digits, tmp_path).features, before.features)
    assert len(entries_in(tmp_path)) == 1


def test_a_cache_that_cannot_be_written_is_named(digits, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(CacheError, match=r"cache cannot be written .* LOSSGAUGE_CACHE"):
        extract(digits, tmp_path / "cache")


def _extract_at_once(cache: str) -> float:
    found = extract(load_dataset("digits"), Path(cache))
    return float(found.features.double().sum())


def test_two_processes_at_once_end_with_one_good_entry(tmp_path):
    with forked_pool(2) as pool:
        sums = pool.map(_extract_at_once, [str(tmp_path)] * 2)
    assert sums[0] == sums[1]
    assert len(entries_in(tmp_path)) == 1


def test_centering_takes_the_training_mean_from_every_row(digits, tmp_path):
    found = extract(digits, tmp_path)
    moved = centered(found)
    torch.testing.assert_close(
        moved.features[found.train].mean(0), torch.zeros(64), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        found.features - moved.features, (found.features - moved.features)[:1].expand(1797, -1)
    )
    assert moved.identity["centered"] == "training mean"


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LOSSGAUGE_CACHE", str(tmp_path / "here"))
    assert default_cache() == tmp_path / "here"


def test_the_cache_is_listed_verified_and_emptied(digits, tmp_path):
    extract(digits, tmp_path)
    extract(dataclasses.replace(digits, digest="another"), tmp_path)
    first, second = store.entries(tmp_path)
    assert (first.rows, first.what) == (1797, "digits by pixels")
    assert first.bytes > 1797 * 64 * 4
    store.verify(first.folder)
    path = second.folder / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CacheError, match="SHA-256"):
        store.verify(second.folder)
    (first.folder / "manifest.json").write_text("{}")
    assert [entry.rows for entry in store.entries(tmp_path)] == [None, 1797]
    for entry in store.entries(tmp_path):
        store.remove(entry.folder)
    assert store.entries(tmp_path) == []


@pytest.mark.slow
def test_of_ten_thousand_random_corruptions_none_passes_for_the_truth(digits, tmp_path):
    """Each ends in an error or in the very same features."""
    wanted = extract(digits, tmp_path).features
    (entry,) = entries_in(tmp_path)
    originals = {path: path.read_bytes() for path in entry.iterdir()}
    generator = np.random.default_rng(0)
    outcomes = {"error": 0, "same": 0, "unnamed": 0}
    for _ in range(10_000):
        path = list(originals)[generator.integers(len(originals))]
        content = bytearray(originals[path])
        place = int(generator.integers(len(content)))
        kind = generator.integers(5)
        if kind == 0:
            content[place] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            content = content[:place]
        elif kind == 2:
            content[place:place] = generator.bytes(int(generator.integers(1, 9)))
        elif kind == 3:
            end = place + int(generator.integers(1, 500))
            content[place:end] = bytes(len(content[place:end]))
        else:
            content[place : place + 8] = generator.bytes(len(content[place : place + 8]))
        path.write_bytes(content)
        try:
            assert torch.equal(extract(digits, tmp_path).features, wanted)
            outcomes["same"] += 1
        except CacheError as error:
            outcomes["error" if str(path) in str(error) else "unnamed"] += 1
        path.write_bytes(originals[path])
    print(outcomes)
    assert outcomes["unnamed"] == 0
    assert outcomes["error"] > 9000
