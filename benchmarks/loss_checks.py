"""What each loss is checked against, with the largest difference that its tests found.

python -m benchmarks.loss_checks        a minute: runs the tests of the losses, and prints the table of docs/related.md

Every `torch.testing.assert_close` of these tests is measured: the largest absolute difference of a value or a gradient, in float64. A peer
that is not installed is a missing row.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest
import torch

LOOP = "test_value_and_gradient_are_those_of_the_loop"
PEER = "test_value_and_gradient_are_those_of_pytorch_metric_learning"
SENTENCES = "of_sentence_transformers"

CHECKS: tuple[tuple[str, str, str, str], ...] = (
    # loss, checked against, file and test, a part of the test's parameters
    ("contrastive", "loop", f"contrastive::{LOOP}", ""),
    ("triplet", "loop", f"triplet::{LOOP}", ""),
    ("triplet", "pytorch-metric-learning `TripletMarginLoss`", f"triplet::{PEER}", ""),
    ("triplet", "torch `TripletMarginLoss`", "triplet::test_unsquared_it_is_the_triplet_margin_loss_of_torch", ""),
    ("n_pair", "loop", f"n_pair::{LOOP}", ""),
    ("n_pair", "pytorch-metric-learning `NPairsLoss`", f"n_pair::{PEER}", ""),
    ("info_nce", "loop", f"info_nce::{LOOP}", ""),
    ("info_nce", "pytorch-metric-learning `NTXentLoss`", f"info_nce::{PEER}", ""),
    ("info_nce", "SINCERE by a loop, equal classes", "info_nce::test_with_equal_class_counts_it_is_sincere", ""),
    ("arcface", "loop", f"arcface::{LOOP}", ""),
    ("arcface", "pytorch-metric-learning `ArcFaceLoss`", f"arcface::{PEER}", ""),
    ("scl", "loop", f"scl::{LOOP}", ""),
    ("scl", "pytorch-metric-learning `SupConLoss`", f"scl::{PEER}", ""),
    ("ccl", "loop", f"ccl::{LOOP}", ""),
    ("ccl, arcface", "pytorch-metric-learning `CosFaceLoss`, `NormalizedSoftmaxLoss`; ProxyNCA++ by a loop", "registry::test_the_nearest_loss_is_the_other_one_at_the_settings_that_the_error_names", ""),
    ("nscl", "loop", "related::test_losses_with_full_weight_are_their_loops", "nscl"),
    ("nscl", "`info_nce`, whose gradient is W times as large", "related::test_info_nce_has_the_gradient_of_nscl_times_its_weight_for_each_pair", ""),
    ("dcl", "loop", "related::test_losses_with_full_weight_are_their_loops", "dcl"),
    ("flat_nce", "gradient of `nscl`", "flat_nce::test_the_gradient_is_that_of_nscl_and_the_value_is_one", ""),
    ("flat_nce", "autograd with a stopped gradient", "flat_nce::test_the_gradient_is_the_one_that_a_stopped_gradient_gives", ""),
    ("relaxed", "loop, with both minings", "related::test_relaxed_is_its_loop", ""),
    ("siglip", "loop", "related::test_siglip_is_its_loop_with_its_parameters", ""),
    ("siglip", "the formula of transformers", "related::test_siglip_is_that_of_transformers_which_divides_by_the_batch_size", ""),
    ("mnrl", "loop", "sentence_losses::test_mnrl_in_both_directions_is_its_loop_and_in_one_it_is_info_nce", ""),
    ("mnrl", "sentence-transformers", f"sentence_losses::test_mnrl_is_that_{SENTENCES}", ""),
    ("gist", "loop", "sentence_losses::test_gist_is_its_loop_with_several_positives_and_ties_of_the_guide", ""),
    ("gist", "sentence-transformers", f"sentence_losses::test_gist_is_that_{SENTENCES}", ""),
    ("cosent", "loop", "sentence_losses::test_cosent_is_a_sum_over_all_combinations_of_a_positive_and_a_negative", ""),
    ("cosent", "sentence-transformers", f"sentence_losses::test_cosent_is_that_{SENTENCES}", ""),
    ("matryoshka", "sums over the widths", "matryoshka::test_value_and_gradient_are_the_sums_over_the_widths_in_both_forms", ""),
    ("matryoshka", "sentence-transformers", f"matryoshka::test_it_is_that_{SENTENCES}", ""),
    ("mined", "pytorch-metric-learning with its miners", "mined::test_a_mined_loss_is_that_of_pytorch_metric_learning_with_its_miner", ""),
    ("multi_similarity", "loop", f"multi_similarity::{LOOP}", ""),
    ("multi_similarity", "pytorch-metric-learning `MultiSimilarityLoss`", f"multi_similarity::{PEER}", ""),
    ("circle", "loop", f"circle::{LOOP}", ""),
    ("circle", "pytorch-metric-learning `CircleLoss`", f"circle::{PEER}", ""),
    ("proxy_anchor", "loop", f"proxy_anchor::{LOOP}", ""),
    ("proxy_anchor", "pytorch-metric-learning `ProxyAnchorLoss`", f"proxy_anchor::{PEER}", ""),
    ("subcenter_arcface", "loop", f"centers::{LOOP}", "SubcenterArcFace"),
    ("subcenter_arcface", "pytorch-metric-learning `SubCenterArcFaceLoss`", f"centers::{PEER}", "SubcenterArcFace"),
    ("soft_triple", "loop", f"centers::{LOOP}", "SoftTriple"),
    ("soft_triple", "pytorch-metric-learning `SoftTripleLoss`", f"centers::{PEER}", "SoftTriple"),
    ("smooth_ap", "loop", f"smooth_ap::{LOOP}", ""),
    ("smooth_ap", "pytorch-metric-learning `SmoothAPLoss`, which adds in float32", "smooth_ap::test_with_the_query_itself_it_is_pytorch_metric_learning_where_that_is_right", ""),
    ("with a memory", "loop", "memory::test_value_gradient_and_counts_are_those_of_the_loop", ""),
    ("with a memory", "pytorch-metric-learning `CrossBatchMemory`", f"memory::{PEER}", ""),
    ("swap", "the rule by loops", "swap::test_the_gradient_is_the_rule_by_loops", ""),
)  # fmt: skip


class Differences:
    """A plugin of pytest: the largest difference of each test."""

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}
        self._test = ""
        self._assert_close = torch.testing.assert_close

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._test = item.nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            for name, values in report.user_properties:
                if name == "differences":
                    self._add(report.nodeid, max(values))
        elif report.failed:
            raise SystemExit(f"{report.nodeid} failed")

    def assert_close(self, actual: Any, expected: Any, **how: Any) -> None:
        self._assert_close(actual, expected, **how)
        for one, other in zip(_leaves(actual), _leaves(expected), strict=True):
            if one.numel():
                apart = (one.double() - other.double()).nan_to_num().abs().max()
                self._add(self._test, float(apart))

    def of(self, test: str, part: str) -> float | None:
        """The largest difference of a test, over its parameters that contain `part`; None if it did not run."""
        file, name = test.split("::")
        start = f"tests/losses/test_{file}.py::{name}"
        found = [
            value
            for node, value in self.largest.items()
            if node.partition("[")[0] == start and part in node
        ]
        return max(found, default=None)

    def _add(self, test: str, difference: float) -> None:
        self.largest[test] = max(self.largest.get(test, 0.0), difference)


def _leaves(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _leaves(part)]
    return [torch.as_tensor(value).detach()]


def main() -> None:
    differences = Differences()
    torch.testing.assert_close = differences.assert_close  # type: ignore[assignment]
    tests = sorted({f"tests/losses/test_{test.replace('::', '.py::')}" for _, _, test, _ in CHECKS})
    with redirect_stdout(StringIO()):
        pytest.main([*tests, "-m", "not slow"], plugins=[differences])
    print("| loss | checked against | largest difference |\n|---|---|---|")
    for loss, against, test, part in CHECKS:
        largest = differences.of(test, part)
        print(f"| {loss} | {against} | {'not run' if largest is None else f'{largest:.0e}'} |")


if __name__ == "__main__":
    main()
