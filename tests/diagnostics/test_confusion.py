import torch

from lossgauge.diagnostics.confusion import confused_classes


def test_confused_classes_equal_a_loop():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(200, generator=generator)
    labels, near = (torch.randint(0, 5, (200,), generator=generator) * 3 for _ in range(2))
    nearest, score = torch.randperm(200, generator=generator), torch.rand(200, generator=generator)
    found = confused_classes(rows, labels, nearest, near, score, most=100)
    pairs = {}
    for place in range(200):
        if labels[place] != near[place]:
            pair = (int(labels[place]), int(near[place]))
            pairs.setdefault(pair, []).append((-float(score[place]), place))
    assert {(one.label, one.other): one.queries for one in found} == {
        pair: len(places) for pair, places in pairs.items()
    }
    assert [one.queries for one in found] == sorted((one.queries for one in found), reverse=True)
    for one in found:
        places = [place for _, place in sorted(pairs[one.label, one.other])[:5]]
        assert one.rows == tuple(rows[places].tolist())
        assert one.nearest == tuple(nearest[places].tolist())
        assert one.back == len(pairs.get((one.other, one.label), ()))
        assert one.share == one.queries / int((labels == one.label).sum())


def test_no_wrong_neighbor_is_no_confusion():
    labels = torch.tensor([0, 0, 1, 1])
    rows = torch.arange(4)
    assert confused_classes(rows, labels, rows, labels, torch.ones(4)) == []
