import dataclasses

import pytest

from lossgauge.backbones import load_backbone
from lossgauge.data import load_dataset
from lossgauge.data.estimate import estimate
from lossgauge.data.features import features
from lossgauge.errors import DataError


def damaged(count, *bad):
    """The first digits, of which those of these numbers cannot be read."""
    digits = load_dataset("digits")

    def read(row):
        if row in bad:
            raise DataError(f"{row} is not a readable image")
        return digits.read(row)

    half = count // 2
    return dataclasses.replace(
        digits,
        ids=tuple(f"{row}.png" for row in range(count)),
        labels=digits.labels[:count],
        train=digits.train[digits.train < half],
        test=digits.train[(digits.train >= half) & (digits.train < count)],
        notes=("another note",),
        read=read,
    )


def notes(count, *bad):
    first, *others = estimate(damaged(count, *bad), load_backbone("pixels")).features.notes
    assert first == "another note"
    return others


def test_images_that_were_tried_and_cannot_be_read_are_named():
    assert notes(64) == []
    assert notes(64, 3) == ["left out because they cannot be read (1 of the 64 tried): 3.png"]
    assert notes(64, 3, 9, 5, 63) == [
        "left out because they cannot be read (4 of the 64 tried): 3.png, 5.png, 9.png and 1 more"
    ]


@pytest.mark.parametrize(("count", "bad"), [(64, 10), (64, 11), (640, 1), (641, 1)])
def test_a_share_of_unreadable_images_that_stops_a_study_is_foretold(count, bad, tmp_path):
    """Of 64 images each is tried; of 640, each unreadable one that was tried stands for ten."""
    first, *others = notes(count, *range(bad))
    assert first.startswith(f"left out because they cannot be read ({bad} of the 64 tried): 0.png")
    expected = bad * count / 64
    if expected <= 10:
        assert others == []
    else:
        assert others == [
            f"a study would stop here: about {expected:.0f} of the {count} images cannot be read, but at most "
            "10 or 1% are allowed: repair or remove them"
        ]
    if count == 64:
        images = damaged(count, *range(bad))
        if others:
            with pytest.raises(DataError, match="cannot be used: more than 10 of its images"):
                features(images, load_backbone("pixels"), cache=tmp_path)
        else:
            assert len(features(images, load_backbone("pixels"), cache=tmp_path).labels) == 54
