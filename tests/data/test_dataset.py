"""The protocol of datasets: what each declares, and names that are wrong."""

import inspect

import pytest

from lossgauge.data import (
    DATASETS,
    check_dataset_name,
    embeddings,
    folder,
    load_dataset,
    named_dataset,
    pairs,
    texts,
)
from lossgauge.data.dataset import Dataset
from lossgauge.errors import InputError
from lossgauge.plan.study import OWN_DATA_KEYS
from lossgauge.settings import settings_of

PROTOCOLS = ("official", "class-disjoint", "halves", "stratified", "component-disjoint")


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_declares_its_counts_licence_split_and_how_to_get_it(name):
    dataset = named_dataset(name)
    assert dataset.name == name
    assert min(dataset.expected) > 1
    assert dataset.protocol in PROTOCOLS
    assert dataset.license
    assert dataset.how_to_get
    assert ("fetch it from the Hugging Face hub with --download" in dataset.how_to_get) == (
        dataset.hub is not None
    )
    assert inspect.getmodule(type(dataset)).__doc__


def test_a_dataset_that_leaves_something_out_of_the_protocol_cannot_be_made():
    class Half(Dataset):
        name = "half"

    with pytest.raises(TypeError, match="abstract method"):
        Half()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion_mnist", r"unknown dataset 'fashion_mnist' \(did you mean 'fashion-mnist'"),
        (
            "birds",
            "unknown dataset 'birds'.*; your own data is folder:PATH, embeddings:PATH, texts:PATH or pairs:PATH",
        ),
        ("foldr:pets", r"unknown kind of data 'foldr:pets' \(did you mean 'folder:'"),
        ("embedding:x.npz", r"unknown kind of data 'embedding:x.npz' \(did you mean 'embeddings:'"),
        ("folder:", "folder: needs a path, as in folder:my-data"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest_one(name, message):
    for check in (check_dataset_name, load_dataset):
        with pytest.raises(InputError, match=message) as caught:
            check(name)
        assert len(str(caught.value).splitlines()) == 1


def test_the_keys_of_a_study_for_own_data_are_settings_of_their_readers():
    readers = {
        "folder": folder.load,
        "embeddings": embeddings.load,
        "texts": texts.load,
        "pairs": pairs.load,
    }
    for kind, load in readers.items():
        declared = set(settings_of(load).defaults) - {"path", "seed"}
        assert declared == {key for key, kinds in OWN_DATA_KEYS.items() if kind in kinds}
