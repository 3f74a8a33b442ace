from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from siloquy.eval import metrics

QRELS = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"d": 1}}


def test_a_perfect_ranking_scores_one() -> None:
    values = metrics.per_query(QRELS, {"q1": ["a", "b"], "q2": ["d"]})
    assert values["q1"] == {"ndcg@10": 1.0, "recall@10": 1.0, "hit@1": 1.0}


def test_ndcg_has_trec_evals_linear_gain() -> None:
    values = metrics.per_query(QRELS, {"q1": ["b", "a"], "q2": ["d"]})
    expected = (1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3))
    assert values["q1"]["ndcg@10"] == pytest.approx(expected, abs=1e-6)


def test_a_judged_but_irrelevant_document_is_no_hit() -> None:
    assert metrics.per_query(QRELS, {"q1": ["c"], "q2": []})["q1"]["hit@1"] == 0.0


def test_a_question_without_a_ranking_counts_zero() -> None:
    assert metrics.per_query(QRELS, {"q1": ["a"], "q2": []})["q2"]["ndcg@10"] == 0.0


def test_the_interval_holds_the_mean_and_repeats_with_its_seed() -> None:
    values = [0.0, 1.0] * 20
    first, again = metrics.estimate(values, 3), metrics.estimate(values, 3)
    assert first == again
    assert first.low < first.mean == 0.5 < first.high


def test_a_run_file_can_be_read_back(tmp_path: Path) -> None:
    metrics.write_run(tmp_path / "run", {"q1": ["a", "b"]}, "ours")
    assert (tmp_path / "run").read_text().splitlines()[1] == "q1 Q0 b 2 998 ours"
