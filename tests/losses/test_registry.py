"""Which name is which loss, and which settings each takes."""

import subprocess
import sys

import pytest
import torch
from pytorch_metric_learning import losses as peers

from lossgauge.errors import InputError
from lossgauge.health.loss_values import loss_values
from lossgauge.losses.base import Loss
from lossgauge.losses.registry import (
    ALL_LOSSES,
    GROUPS,
    LOSSES,
    load_loss,
    loss_class,
    our_name,
    settings_of,
)
from lossgauge.losses.settings import REQUIRED
from lossgauge.plan.loss import LossPlan
from lossgauge.plan.yaml_file import parse_plan
from tests.losses.cases import BATCHES, assert_same_as_peer, make_batch

STUDY = """
datasets: [digits]
losses: [{loss}]
seeds: 1
epochs: 3
batch_size: 64
learning_rate: 0.001
"""


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        ("contrastive_loss ContrastiveLoss Contrastive", "contrastive"),
        ("triplet_loss TripletLoss TRIPLET", "triplet"),
        (
            "N-pair npair npairs NPairsLoss multi_class_n_pair MultiClassNPairLoss N-pair-mc",
            "n_pair",
        ),
        ("InfoNCE info-nce infonce ntxent nt_xent NT-Xent NTXentLoss InfoNCELoss", "info_nce"),
        ("ArcFace arc_face ArcFaceLoss aam-softmax additive_angular_margin", "arcface"),
        ("supcon SupCon sup_con SupConLoss SupervisedContrastiveLoss SCL", "scl"),
        ("center_contrastive CenterContrastiveLoss CCL", "ccl"),
        ("MultipleNegativesRankingLoss MNR mnrl", "mnrl"),
        ("DCL DecoupledContrastiveLoss", "dcl"),
        ("FedRCL RCL relaxed_contrastive", "relaxed"),
        ("SigLIP SigLipLoss", "siglip"),
        ("GISTEmbedLoss", "gist"),
        ("CoSENTLoss", "cosent"),
        ("ms multisimilarity MultiSimilarityLoss", "multi_similarity"),
        ("CircleLoss", "circle"),
        ("ProxyAnchorLoss", "proxy_anchor"),
        ("SubCenterArcFaceLoss sub_center_arcface", "subcenter_arcface"),
        ("SoftTripleLoss", "soft_triple"),
        ("SmoothAPLoss", "smooth_ap"),
        ("FlatNCE flat-info-nce", "flat_nce"),
    ],
)
def test_the_names_of_the_field_work_here_and_in_a_study_whatever_their_case_and_separators(
    names, ours
):
    for name in names.split():
        assert our_name(name) == ours
        assert loss_class(name) is loss_class(ours)
        assert parse_plan(STUDY.format(loss=name)).losses == [LossPlan(name=ours)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("cosface CosFaceLoss am-softmax LMCL", "'ccl': with center_weight: 0 it is CosFace"),
        ("center CenterLoss", "'ccl': beside the pull .* a softmax over all centers"),
        ("TripletMarginLoss", "'triplet': give it power=1"),
        ("batch_all_triplet BatchAllTripletLoss", "'triplet': .* squares the"),
        ("BatchHardTripletLoss TripletSemiHardLoss FaceNet", "'triplet': .* not only the hard"),
        ("OnlineContrastiveLoss", "'contrastive': it takes all pairs of the batch"),
        ("CachedMultipleNegativesRankingLoss", "'mnrl': it has the same value"),
        ("MultipleNegativesSymmetricRankingLoss", "'mnrl': with symmetric: true"),
        ("CachedGISTEmbedLoss", "'gist': it compares queries with documents only"),
        ("AnglELoss", "'cosent': it compares cosines"),
        ("sincere SimCLR", "'info_nce': "),
        ("SphereFaceLoss NormalizedSoftmaxLoss ProxyNCA++", "'arcface': "),
        ("supcon_in", "'scl': it averages over positives outside the logarithm"),
    ],
)
def test_a_loss_that_is_only_near_is_named_with_the_difference(names, message):
    for name in names.split():
        with pytest.raises(InputError, match=f"no loss is named .*; the nearest is {message}") as e:
            load_loss(name)
        assert "\n" not in str(e.value)
        assert our_name(name) == name


@pytest.mark.parametrize(
    ("typo", "message"),
    [
        ("tripplet", r"unknown loss 'tripplet' \(did you mean 'triplet'"),
        ("SupConn", "did you mean 'scl'"),
        ("infonse", "did you mean 'info_nce'"),
        ("cosfacee", "no loss is named 'cosfacee'; the nearest is 'ccl': .*CosFace"),
        (
            "lifted_structure",
            r"\(known: contrastive, triplet, n_pair, info_nce, arcface, scl, ccl, .*\); for your own loss",
        ),
        ("", r"unknown loss '' \(known: "),
    ],
)
def test_a_typo_gets_the_nearest_name(typo, message):
    with pytest.raises(InputError, match=message):
        load_loss(typo)


def test_a_name_stands_for_one_loss():
    names = []
    for loss in ALL_LOSSES:
        made = loss_class(loss)
        names += [loss, *made.aliases, *(name for near in made.near for name in near.names)]
    keys = [name.replace("_", "").removesuffix("loss") for name in names]
    assert len(keys) == len(set(keys))


def test_the_nearest_loss_is_the_other_one_at_the_settings_that_the_error_names():
    embeddings, labels = make_batch(BATCHES["balanced"], width=6)
    for ours, settings, peer in (
        ("ccl", {"center_weight": 0, "margin": 0.35, "scale": 64}, peers.CosFaceLoss(4, 6)),
        ("arcface", {"margin": 0, "scale": 18}, peers.NormalizedSoftmaxLoss(4, 6, 1 / 18)),
    ):
        loss = load_loss(ours, class_count=4, embedding_size=6, **settings).double()
        peer.double().W.data = loss.proxies.data.T
        # the peers normalise themselves
        ours_of_unit = lambda z, y, loss=loss: loss(torch.nn.functional.normalize(z), y)  # noqa: E731
        assert_same_as_peer(ours_of_unit, peer, (embeddings, labels))
    # ProxyNCA++ (Teh et al. 2020): a softmax over −D²/T of unit vectors, T = 1/9
    proxies = torch.nn.functional.normalize(loss.proxies.detach())
    logits = -9 * (embeddings[:, None] - proxies).square().sum(2)
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(loss(embeddings, labels), expected)


def test_the_names_and_a_wrong_case_need_no_torch():
    code = (
        "import sys; from lossgauge.losses.registry import LOSSES, our_name; our_name('Triplet')\n"
        "assert 'torch' not in sys.modules and 'numba' not in sys.modules; print(*LOSSES)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(LOSSES)


def test_the_group_paper_is_the_seven_and_every_group_has_a_title():
    groups = {name: loss_class(name).group for name in ALL_LOSSES}
    assert tuple(name for name in ALL_LOSSES if groups[name] == "paper") == LOSSES
    assert set(groups.values()) == set(GROUPS)


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_a_loss_says_of_each_setting_what_it_is(name):
    settings = settings_of(name)
    assert {"reduction", "tolerance"} < settings.keys()
    for key, known in settings.items():
        assert known.from_data == (key in ("class_count", "embedding_size"))
        whole = ("power", "sub_centers", "centers_per_class")
        assert known.tunable == (known.search is not None or key in whole)
        others = {"reduction": str, "symmetric": bool, "include_self": bool, "mining": str}
        others |= dict.fromkeys(whole, int)
        others["margin_strategy"] = str
        others |= {"of": str, "weight_of": str, "direction_of": str, "smallest": int, "miner": str}
        assert known.kind is (int if known.from_data else others.get(key, float))
        assert known.default is REQUIRED or type(known.default) is known.kind


def test_the_losses_with_a_floor_are_those_of_which_a_report_says_so():
    values = {name: loss_values(name, batch_size=64, class_count=8) for name in LOSSES}
    high = {name for name, of in values.items() if of.perfect > 0.1 * of.collapsed}
    assert high == {n for n in LOSSES if loss_class(n).floor is not Loss.floor}


SIGNATURES = """
class Signed:
    def __init__(self, said: float, shown=0.5, count: int = 3, *, reduction="mean", class_count):
        pass

class Open:
    def __init__(self, **anything):
        self.anything = anything

    def __call__(self, z, y):
        return z.sum()
"""


def test_a_loss_of_the_users_is_asked_by_its_signature(tmp_path):
    (tmp_path / "own.py").write_text(SIGNATURES)
    found = settings_of(f"{tmp_path / 'own.py'}:Signed")
    assert [(key, s.kind, s.from_data, s.tunable) for key, s in found.items()] == [
        ("said", float, False, True),
        ("shown", float, False, True),
        ("count", int, False, True),
        ("reduction", str, False, False),
        ("class_count", None, True, False),
    ]
    assert settings_of(f"{tmp_path / 'own.py'}:Open") == {}
    assert load_loss(f"{tmp_path / 'own.py'}:Open", a=1).function.anything == {"a": 1}
