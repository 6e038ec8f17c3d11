import json
import math

import numpy as np
import pytest
from scipy import stats

import lossgauge as lg
from lossgauge.diagnosis.two_tables import nearest
from lossgauge.diagnosis.two_tables.sentences import comparison_lines
from lossgauge.errors import DataError, InputError
from tests.diagnosis.two_tables.tables import pair_tables, unit


def ranked(queries, documents):
    """Documents of each query by cosine, then by number, in a loop."""
    scores = unit(queries) @ unit(documents).T
    return [sorted(range(len(documents)), key=lambda d, row=row: (-row[d], d)) for row in scores]


def test_queries_with_the_same_right_document_count_as_one_in_the_interval():
    queries, documents, _ = pair_tables(noise=1.2)
    # by chains of right documents: 0, 1, 2; 3, 4; each other query alone; a document judged wrong connects nothing
    right = {row: {row: 1} for row in range(20)} | {0: {0: 1, 1: 1}, 2: {1: 1}, 4: {3: 1, 5: 0}}
    of = lg.diagnose(queries, corpus=documents, judgements=right)
    clusters = [[0, 1, 2], [3, 4], *([row] for row in range(5, 20))]
    values = of.per_query.ndcg_at_10 - of.per_query.ndcg_at_10.mean()
    sums = [sum(values[row] for row in cluster) for cluster in clusters]
    count = len(clusters)
    error = math.sqrt(sum(one**2 for one in sums) * count / (count - 1)) / 20
    sizes = [len(cluster) ** 2 for cluster in clusters]
    degrees = sum(sizes) ** 2 / sum(size**2 for size in sizes) - 1
    found = of.judged[0].ndcg_at_10
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, degrees) * error)
    assert found.over == "new queries"
    assert "(20 queries in 17 groups with common right documents against" in str(of)


@pytest.mark.parametrize("blocks", [None, 100])
def test_all_numbers_equal_loops_over_queries(blocks, monkeypatch):
    if blocks:  # documents in blocks of 6, queries of 12
        monkeypatch.setattr(nearest, "BLOCK_NUMBERS", blocks)
        monkeypatch.setattr(nearest, "QUERY_NUMBERS", 2 * blocks)
    queries, documents, _ = pair_tables(noise=1.2)
    grades = {row: {row: 2, (row * 7 + 3) % 150: 1, (row * 5 + 61) % 150: 0} for row in range(50)}
    of = lg.diagnose(queries, corpus=documents, judgements=grades)
    order, scores = ranked(queries, documents), unit(queries) @ unit(documents).T
    expected = {"ndcg": [], "rr": [], **{k: [] for k in (1, 10, 100)}}
    failed, distances = {}, []
    for row, own in grades.items():
        right = {one for one, grade in own.items() if grade}
        gain = sum(own.get(d, 0) / math.log2(n + 2) for n, d in enumerate(order[row][:10]))
        best = sorted(own.values(), reverse=True)
        expected["ndcg"].append(gain / sum(g / math.log2(n + 2) for n, g in enumerate(best)))
        ranks = [n + 1 for n, d in enumerate(order[row]) if d in right]
        expected["rr"].append(1 / ranks[0] if ranks[0] <= 10 else 0)
        for k in (1, 10, 100):
            expected[k].append(sum(rank <= k for rank in ranks) / len(right))
        if ranks[0] > 10:
            failed[str(row)] = str(order[row][ranks[0] - 1]), ranks[0], order[row][:3]
        distances += [((unit(queries)[row] - unit(documents)[d]) ** 2).sum() for d in right]
    judged = of.judged[0]
    assert judged.query_count == 50
    assert judged.ndcg_at_10.mean == pytest.approx(np.mean(expected["ndcg"]), abs=1e-12)
    assert judged.mrr_at_10.mean == pytest.approx(np.mean(expected["rr"]), abs=1e-12)
    for k in (1, 10, 100):
        assert judged.found_at[k].mean == pytest.approx(np.mean(expected[k]), abs=1e-12)
    assert of.alignment == pytest.approx(np.mean(distances), abs=1e-9)
    assert failed
    assert {f.query: (f.right, f.rank, list(map(int, f.nearer))) for f in of.failures} == {
        query: (right, rank if rank <= 100 else None, first)
        for query, (right, rank, first) in failed.items()
    }
    for place, row in enumerate(of.nearest.rows.tolist()):
        assert of.nearest.documents[place].tolist() == order[row][:100]
        assert of.nearest.similarity[place] == pytest.approx(scores[row][order[row][:100]])
    found, unneeded = np.zeros(150), np.zeros(150)
    for row in grades:
        for document in order[row][:10]:
            found[document] += 1
            unneeded[document] += not grades[row].get(document, 0)
    assert of.found.never_found == np.mean(found == 0)
    assert (of.found.most_found, int(of.most_found)) == (unneeded.max(), unneeded.argmax())
    right = np.zeros((50, 150), dtype=bool)
    for row, own in grades.items():
        right[row, [d for d, grade in own.items() if grade]] = True
    limits = of.thresholds
    assert (limits.genuine_count, limits.impostor_count) == (right.sum(), (~right).sum())
    first = scores[:50]
    best = max((np.mean(first[right] >= t) + np.mean(first[~right] < t)) / 2 for t in first[right])
    assert limits.best_accuracy.mean == pytest.approx(best)
    one, other = unit(queries).mean(axis=0), unit(documents).mean(axis=0)
    assert of.gap.distance == pytest.approx(np.linalg.norm(one - other))
    assert of.queries.geometry.offset == pytest.approx(one @ one)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_numbers_are_those_of_judged_retrieval(similarity):
    queries, documents, _ = pair_tables(noise=1.5, norms=True)
    generator = np.random.default_rng(1)
    query, document = np.nonzero(generator.random((60, 150)) < 0.03)
    grade = generator.integers(1, 4, len(query))
    of = lg.diagnose(
        queries, corpus=documents, judgements=np.stack([query, document, grade], axis=1)
    )
    found = lg.judged_retrieval(
        queries, documents, query=query, document=document, grade=grade, similarity=similarity
    )
    judged = next(one for one in of.judged if one.similarity == similarity)
    assert judged.query_count == found.query_count
    assert judged.ndcg_at_10.mean == pytest.approx(found.ndcg_at_10, abs=1e-12)
    assert judged.mrr_at_10.mean == pytest.approx(found.mrr_at_10, abs=1e-12)
    for k in (1, 10, 100):
        assert judged.found_at[k].mean == pytest.approx(found.found_at[k], abs=1e-12)
        assert judged.recall_at[k].mean == pytest.approx(found.recall_at[k], abs=1e-12)


def test_judgements_by_ids_give_the_numbers_of_row_numbers(tmp_path):
    queries, documents, right = pair_tables()
    names = [f"d{n}" for n in range(150)]
    np.savez(tmp_path / "q.npz", embeddings=queries)
    np.savez(tmp_path / "d.npz", embeddings=documents[::-1], ids=np.array(names[::-1]))
    (tmp_path / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\td{d}\t1\n" for q, d in right)
    )
    of = lg.diagnose(
        tmp_path / "q.npz", corpus=tmp_path / "d.npz", judgements=tmp_path / "qrels.tsv"
    )
    plain = lg.diagnose(queries, corpus=documents, judgements=right)
    assert of.judged == plain.judged
    assert of.thresholds is not None
    first = lg.diagnose(queries, corpus=documents, judgements=right).failures
    assert [f.query for f in of.failures] == [f.query for f in first]
    assert [f.right for f in of.failures] == [f"d{f.right}" for f in first]


def test_without_judgements_what_needs_none_is_measured():
    queries, documents, _ = pair_tables()
    of = lg.diagnose(queries, corpus=documents)
    assert of.notes == ("no judgements: all that needs right documents is left out",)
    assert (of.judged, of.alignment, of.thresholds, of.failures) == ((), None, None, ())
    assert of.found.query_count == 60
    assert {one.name for one in of.findings} >= {"modality-gap", "hub-documents", "cone"}
    assert json.loads(json.dumps(of.plain))["equal_count"] == 0


def test_dot_product_is_measured_where_norms_differ():
    queries, documents, right = pair_tables(norms=True)
    documents[::2] *= 20
    of = lg.diagnose(queries, corpus=documents, judgements=right)
    cosine, dot = of.judged
    assert (cosine.similarity, dot.similarity) == ("cosine", "dot")
    hits = (queries.astype(float) @ documents.astype(float).T).argmax(axis=1) == np.arange(60)
    assert dot.recall_at[1].mean == pytest.approx(hits.mean())
    norms = next(one for one in of.findings if one.name == "norms")
    lost = 100 * (cosine.recall_at[1].mean - dot.recall_at[1].mean)
    assert norms.level == "act"
    assert f"(difference {lost:.1f} ±" in norms.evidence


def test_the_advice_to_center_is_measured():
    queries, documents, right = pair_tables(norms=True)
    assert lg.diagnose(queries, corpus=documents, judgements=right).centered is None
    queries, documents = unit(queries + 6), unit(documents - 1)  # a cone, and a gap
    queries[4] = queries.mean(axis=0) / np.linalg.norm(queries.mean(axis=0))
    of = lg.diagnose(queries, corpus=documents, judgements=right)
    by_hand = lg.diagnose(
        queries - queries.mean(axis=0), corpus=documents - documents.mean(axis=0), judgements=right
    )
    assert of.centered.judged == by_hand.judged[0]
    change = by_hand.per_query.ndcg_at_10 - of.per_query.ndcg_at_10
    assert of.centered.ndcg_at_10.mean == pytest.approx(change.mean())
    assert "each side centred (minus the mean of all 60 queries and of all 150 documents" in str(of)


def test_of_a_side_that_is_centered_already_no_centering_is_advised(tmp_path):
    queries, documents, right = pair_tables(norms=True)
    rows = {"queries": unit(queries + 6), "documents": unit(documents - 1)}
    place = {name: tmp_path / f"{name}.npz" for name in rows}

    def measured(*centered):
        for name, table in rows.items():
            # any of a user's own arrays may be called mean
            mark = {"head": np.array("0")} if name in centered else {}
            np.savez(place[name], embeddings=table, mean=np.zeros(16), **mark)
        of = lg.diagnose(place["queries"], corpus=place["documents"], judgements=right)
        advice = "".join(one.advice for one in of.findings if one.level != "ok")
        assert of.plain["queries"]["centered"] == ("queries" in centered)
        assert (of.centered is None, "--center" not in advice) == (bool(centered),) * 2
        return [note for note in of.notes if "is centered" in note]

    assert measured() == measured("queries", "documents") == []
    (note,) = measured("documents")
    assert "documents.npz is centered (it has the array mean), and " in note
    assert str(place["queries"]) in note.split("and ")[1]
    assert not any("--center" in one.advice for one in lg.diagnose(place["documents"]).findings)


def test_rows_at_the_mean_keep_their_direction():
    queries, documents = np.eye(4)[:1] + np.zeros((30, 1)), np.eye(4)[np.arange(40) % 3]
    of = lg.diagnose(queries, corpus=documents, judgements=[(0, 0)])
    assert of.centered.judged.query_count == 1


def test_another_model_is_compared_query_by_query():
    queries, documents, right = pair_tables()
    noisy = queries + 0.4 * np.random.default_rng(1).normal(size=queries.shape)
    of = lg.diagnose(
        queries, corpus=documents, judgements=right, against=noisy, against_corpus=documents
    ).against
    before, after = (
        lg.diagnose(one, corpus=documents, judgements=right) for one in (queries, noisy)
    )
    change = after.per_query.ndcg_at_10 - before.per_query.ndcg_at_10
    assert of.ndcg_at_10.mean == pytest.approx(change.mean())
    assert {int(one.query) for one in of.got_worse} == set(np.flatnonzero(change < 0))
    assert {int(one.query) for one in of.got_better} == set(np.flatnonzero(change > 0))
    assert of.got_worse[0].after - of.got_worse[0].before == change.min()
    fresh = [
        len(set(new) - set(old)) / 10
        for old, new in zip(
            before.nearest.documents[:, :10].tolist(),
            after.nearest.documents[:, :10].tolist(),
            strict=True,
        )
    ]
    assert of.new_neighbors.mean == pytest.approx(np.mean(fresh))
    assert any("documents are new; most: " in line for line in comparison_lines(of))
    same = lg.diagnose(queries, corpus=documents, against=queries, against_corpus=documents)
    assert "of the nearest documents are new\n" in "\n".join(comparison_lines(same.against))
    assert any(
        "got worse" in line
        for line in str(
            lg.diagnose(
                queries, corpus=documents, judgements=right, against=noisy, against_corpus=documents
            )
        ).splitlines()
    )


def test_a_query_of_zeros_in_one_model_is_no_query_of_either():
    queries, documents, right = pair_tables()
    other = queries.copy()
    other[5] = 0
    of = lg.diagnose(
        queries, corpus=documents, judgements=right, against=other, against_corpus=documents
    )
    assert of.nearest.rows.tolist() == [row for row in range(60) if row != 5]
    assert of.against.after.nearest.rows.tolist() == of.nearest.rows.tolist()
    assert of.against.ndcg_at_10.mean == 0


def test_zeros_queries_without_judgements_and_repeats_are_counted():
    queries, documents, right = pair_tables(noise=1.5)
    queries[3], documents[[7, 45, 140]] = 0, 0
    documents[145] = documents[141]
    of = lg.diagnose(queries, corpus=documents, judgements=np.concatenate([right[:50], right[:2]]))
    assert of.notes[0].startswith("1 of 60 rows of queries are all zeros")
    assert of.notes[1].startswith("3 of 150 rows of corpus are all zeros")
    assert of.notes[2].startswith("10 of 60 queries have no document that is judged right")
    assert of.notes[3].startswith("2 judgements repeat")
    assert of.judged[0].query_count == 49
    assert of.judged[0].found_at[100].mean < 1  # the document of query 7 has no direction
    first = [(one.query, one.rank) for one in of.failures[:2]]
    assert first == [("7", None), ("45", None)]
    behind = [one.nearer_similarity[0] - one.similarity for one in of.failures[2:]]
    assert len(behind) > 5
    assert behind == sorted(behind, reverse=True)
    assert "query 7: right document 7 (all zeros)" in str(of)
    assert not np.isin([7, 45, 140], of.nearest.documents).any()
    found = np.bincount(of.nearest.documents[:, :10].ravel(), minlength=150)
    assert of.found.never_found == np.mean(np.delete(found, [7, 45, 140]) == 0)
    assert (of.documents.copies.row.tolist(), of.documents.copies.of.tolist()) == ([145], [141])


def test_a_sample_of_queries_is_searched_and_said_so():
    queries, documents, right = pair_tables()
    of = lg.diagnose(queries, corpus=documents, judgements=right, queries=20)
    assert of.searched_queries == 20
    assert of.notes[-1].startswith("20 of 60 queries are searched for")
    every = lg.diagnose(queries, corpus=documents, judgements=right)
    assert np.array_equal(of.per_query.ndcg_at_10, every.per_query.ndcg_at_10[of.per_query.row])


def test_few_rows_have_an_answer():
    of = lg.diagnose(np.eye(3)[:1], corpus=np.eye(3)[:2], judgements=[(0, 1)])
    assert of.judged[0].mrr_at_10.mean == 0.5
    assert of.found is None
    assert "Recall@100" in str(of)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"corpus": np.ones((5, 4))},
            "must have the same width, got 16 in queries and 4 in corpus",
        ),
        ({"corpus": np.full((5, 16), np.nan)}, "NaN"),
        ({"corpus": np.zeros((5, 16))}, "all 5 rows are zero"),
        ({"corpus": np.ones(16)}, "corpus: embeddings must be a (rows, width) array"),
        ({"corpus": np.ones((0, 16))}, "corpus: the batch is empty"),
        ({"labels": np.zeros(60, int)}, "judgements instead of labels"),
        ({"labels_name": "y"}, "labels_name has no effect"),
        ({"engine": "ray"}, "engine must be local"),
        ({"against": np.ones((60, 16))}, "needs both its tables"),
        (
            {"against": np.ones((60, 16)), "against_corpus": np.ones((4, 16))},
            "both tables must have the same rows, got 150 in corpus and 4 in other corpus",
        ),
        ({"corpus": None, "judgements": [(0, 0)]}, "judgements needs a second table"),
        ({"judgements": [(60, 0)]}, "has query '60', and queries has no ids"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(change, words):
    queries, documents, _ = pair_tables()
    given = {"corpus": documents} | change
    with pytest.raises((InputError, DataError)) as raised:
        lg.diagnose(queries, **given)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_ids_must_be_unique_and_a_corpus_must_have_rows(tmp_path):
    queries, documents, _ = pair_tables()
    np.savez(tmp_path / "d.npz", embeddings=documents[:2], ids=np.array(["a", "a"]))
    with pytest.raises(DataError, match=r"row 0 and .*row 1 are both 'a'"):
        lg.diagnose(queries, corpus=tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", embeddings=documents[:0])
    with pytest.raises(InputError, match="there must be a row"):
        lg.diagnose(queries, corpus=tmp_path / "e.npz")
