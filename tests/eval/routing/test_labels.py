"""The routing tracks on labels: splits, measures by hand, and both runs on made-up questions."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.eval.routing import labels as routing_labels
from siloquy.eval.routing.labels import (
    CORPORA,
    ENGINES,
    MeasureRow,
    Outcome,
    all_hit,
    asked,
    auc,
    best_baseline,
    compare,
    ndcg,
    recall,
    run_feb4rag,
    run_ragroute,
    scored,
    split,
)
from siloquy.types import Vector

TOPICS = ("heart", "kidney", "skin")
TARGETS = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
SCORES = np.array([[0.9, 0.2, 0.4], [0.8, 0.7, 0.1]])
ONES = np.ones(2)


def encode(texts: object) -> Vector:
    """Each text's topic as a vector."""
    assert isinstance(texts, tuple)
    places = [[topic in text for topic in TOPICS] for text in texts]
    return np.array(places, dtype=np.float32)


def mirage(path: Path, n: int) -> Path:
    """Questions about three topics: PubMed holds all, one other corpus each topic."""
    generator = np.random.default_rng(0)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for i, topic in enumerate(generator.integers(0, 3, n)):
            record = {
                "_id": f"q{i}",
                "set": "even" if i % 2 else "odd",
                "question": f"What helps the {TOPICS[topic]} number {i}?",
                "medrag_relevant_corpora": ["pubmed", CORPORA[1 + topic]],
            }
            file.write(json.dumps(record) + "\n")
    return path


def requests(folder: Path, n: int) -> Path:
    """Requests about three topics, each with an engine of its own; arguana is fair for all."""
    generator = np.random.default_rng(0)
    lines, grades = [], []
    for i, topic in enumerate(generator.integers(0, 3, n)):
        lines.append(json.dumps({"_id": str(i), "text": f"Tell me of the {TOPICS[topic]} {i}"}))
        grades += [f"{i} 0 {ENGINES[1 + topic]} 60", f"{i} 0 arguana 40", f"{i} 0 robust04 100"]
    (folder / "requests.jsonl").write_text("\n".join(lines))
    (folder / "BEIR-QRELS-RS.txt").write_text("\n".join(grades))
    return folder


@pytest.fixture
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_labels, "_EPOCHS", 8)
    monkeypatch.setattr(routing_labels, "RESAMPLES", 20)


def figure(outcome: Outcome, router: str, measure: str) -> float:
    (row,) = [r for r in outcome.rows if (r.router, r.measure) == (router, measure)]
    return row.mean


def test_measures_count_what_they_say() -> None:
    assert auc(SCORES, TARGETS, ONES) == pytest.approx(7 / 9)
    assert asked(SCORES, ONES, 1.5).tolist() == [[True, False, False], [True, True, False]]
    assert recall(1.5)(SCORES, TARGETS, ONES) == pytest.approx(2 / 3)
    assert all_hit(1.5)(SCORES, TARGETS, ONES) == 0.5
    assert all_hit(2.0)(SCORES, TARGETS, ONES) == 1.0
    second = 1 / np.log2(3)
    gained = [(1 + second) / (1 + second), second]
    assert ndcg(2)(SCORES, TARGETS, ONES) == pytest.approx(np.mean(gained))


def test_gains_are_two_to_the_grade_less_one() -> None:
    targets = np.array([[0.5, 1.0]])
    value = ndcg(2)(np.array([[2.0, 1.0]]), targets, np.ones(1))
    low, second = 2**0.5 - 1, 1 / np.log2(3)
    assert value == pytest.approx((low + second) / (1 + low * second))
    assert ndcg(3)(SCORES[:1], np.zeros((1, 3)), np.ones(1)) == 0.0


def test_ties_count_half_and_constant_scores_say_nothing() -> None:
    assert auc(np.zeros((2, 3)), TARGETS, ONES) == 0.5


def test_exactly_the_mean_number_of_sources_is_asked_of_tied_scores() -> None:
    assert asked(np.zeros((5, 4)), np.ones(5), 2.0).sum() == 10


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(0, 1000))
def test_a_weight_is_as_good_as_a_repetition(weights: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores, targets = generator.random((6, 3)), generator.integers(0, 2, (6, 3)).astype(float)
    targets[0], weights[0] = [1.0, 0.0, 1.0], max(weights[0], 1)
    count = np.array(weights, dtype=np.float64)
    rows = np.repeat(np.arange(6), weights)
    for measure in (auc, ndcg(2)):
        repeated = measure(scores[rows], targets[rows], np.ones(len(rows)))
        assert measure(scores, targets, count) == pytest.approx(repeated)


@given(st.integers(10, 200), st.integers(0, 5))
def test_a_split_holds_each_row_once_and_shares_each_stratum(n: int, seed: int) -> None:
    strata: NDArray[np.str_] = np.where(np.arange(n) % 3 == 0, "a", "b")
    parts = split(strata, (0.36, 0.04), seed)
    rows = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(rows.tolist()) == list(range(n))
    for stratum in ("a", "b"):
        whole = (strata == stratum).sum()
        assert abs((strata[parts.train] == stratum).sum() - 0.36 * whole) <= 1
        assert abs((strata[parts.known] == stratum).sum() - 0.40 * whole) <= 1


def test_the_best_baseline_is_neither_ours_nor_the_oracle() -> None:
    named = {"ours": 0.9, "oracle": 1.0, "all": 1.0, "prior": 0.6, "random": 0.5}
    rows = [MeasureRow(name, "auc", mean, (mean,)) for name, mean in named.items()]
    assert best_baseline(rows, "auc") == "prior"


@pytest.mark.slow
@pytest.mark.usefixtures("few_epochs")
def test_the_ragroute_track_ranks_the_routers_as_it_must(tmp_path: Path) -> None:
    outcome = run_ragroute(mirage(tmp_path / "q.jsonl.gz", 200), (0, 1), encode)
    assert figure(outcome, "random", "auc") == pytest.approx(0.5, abs=0.1)
    assert figure(outcome, "prior", "auc") < 0.95
    for router in ("ours", "oracle", "tf-idf logistic", "vector logistic"):
        assert figure(outcome, router, "auc") > 0.98
        assert figure(outcome, router, "all-hit@3.0") > 0.95
    assert figure(outcome, "ragroute mlp", "auc") > figure(outcome, "prior", "auc")
    assert figure(outcome, "all", "recall@4.0") == 1.0
    assert [d.measure for d in outcome.differences] == ["auc", "recall@2.0", "all-hit@3.0"]


@pytest.mark.usefixtures("few_epochs")
def test_figures_can_be_recomputed_from_what_was_kept(tmp_path: Path) -> None:
    data = routing_labels.ragroute(mirage(tmp_path / "q.jsonl.gz", 120), encode)
    splits = {3: split(data.strata, (0.36, 0.04), 3)}
    routers = routing_labels.COMMON | {"tf-idf logistic": routing_labels.tfidf}
    outcome = compare(data, splits, scored(data, splits, routers), routing_labels.PAIR_MEASURES)
    assert figure(outcome, "ours", "auc") > 0.98 > figure(outcome, "prior", "auc")
    assert {d.baseline for d in outcome.differences} <= {"tf-idf logistic", "vector logistic"}
    kept = [row for row in outcome.scored if (row.router, row.seed) == ("ours", 3)]
    assert len(kept) == len({row.question for row in kept}) == 72
    scores, targets = (np.array([getattr(r, f) for r in kept]) for f in ("scores", "targets"))
    assert auc(scores, targets, np.ones(72)) == figure(outcome, "ours", "auc")
    assert all(len(row.relevant) == 2 and row.relevant[0] == "pubmed" for row in kept)


@pytest.mark.slow
@pytest.mark.usefixtures("few_epochs")
def test_the_feb4rag_track_learns_which_engine_is_best(tmp_path: Path) -> None:
    outcome = run_feb4rag(requests(tmp_path, 200), (0,), encode)
    assert outcome.sources == ENGINES
    assert figure(outcome, "oracle", "ndcg@3") == 1.0
    assert figure(outcome, "ours", "ndcg@3") > 0.98 > figure(outcome, "prior", "ndcg@3")
    assert max(max(row.targets) for row in outcome.scored) == 0.6
    (first, _) = outcome.differences
    assert first.estimate.low - 1e-9 <= first.estimate.mean <= first.estimate.high + 1e-9


@pytest.mark.parametrize(
    "name", [*routing_labels.COMMON, "tfidf", pytest.param("mlp", marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("few_epochs")
def test_only_the_oracle_reads_the_labels_of_the_test(tmp_path: Path, name: str) -> None:
    data = routing_labels.ragroute(mirage(tmp_path / "q.jsonl.gz", 120), encode)
    parts = split(data.strata, (0.36, 0.04), 0)
    targets = data.targets.copy()
    targets[parts.test] = 1 - targets[parts.test]
    hidden = replace(data, targets=targets, ids=("",) * 120, strata=np.full(120, "?"))
    learners = {"tfidf": routing_labels.tfidf, "mlp": routing_labels.mlp}
    router = (routing_labels.COMMON | learners)[name]
    same = np.array_equal(router(data, parts, 0), router(hidden, parts, 0))
    assert same == (name != "oracle")


@pytest.mark.slow
@pytest.mark.needs_data
def test_ours_is_ahead_of_the_prior_on_real_labels() -> None:
    data = Path(os.environ.get("SILOQUY_DATA", "absent"))
    path = data / "mcq" / "mirage_public.jsonl.gz"
    if not path.exists():
        pytest.skip("SILOQUY_DATA names no folder with the data sets")
    outcome = run_ragroute(path, (0,))
    assert figure(outcome, "ours", "auc") > figure(outcome, "prior", "auc") + 0.03
    assert all(difference.estimate.low > -0.02 for difference in outcome.differences)


def test_a_run_names_the_hashes_of_what_it_read(tmp_path: Path) -> None:
    path = mirage(tmp_path / "mirage_public.jsonl.gz", 3)
    ((name, digest),) = routing_labels.file_hashes(path).items()
    assert (name, len(digest)) == (path.name, 64)
    for file in routing_labels.FEB4RAG_FILES:
        (tmp_path / file).write_text(file)
    found = routing_labels.file_hashes(tmp_path)
    assert tuple(found) == routing_labels.FEB4RAG_FILES
    assert len(set(found.values())) == 2
