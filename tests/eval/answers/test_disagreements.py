"""The labelled pairs are enough and balanced, and most are told apart."""

from __future__ import annotations

from siloquy.eval.answers.disagreements import load, score


def test_there_are_enough_pairs_of_both_kinds() -> None:
    pairs = load()
    assert len(pairs) >= 40
    assert 0.4 <= sum(pair.conflict for pair in pairs) / len(pairs) <= 0.6
    assert len({pair.id for pair in pairs}) == len(pairs)
    assert all(bool(pair.kind) == pair.conflict for pair in pairs)
    assert all(pair.sources[0].silo != pair.sources[1].silo for pair in pairs)


def test_most_conflicts_are_shown_and_few_others() -> None:
    scores = score(load())
    assert scores.recall.value >= 0.85
    assert scores.precision.value >= 0.9
    assert scores.alarms.value <= 0.1
    assert scores.right_kind.value >= 0.85


def test_a_score_counts_what_is_shown() -> None:
    pairs = [pair for pair in load() if pair.id in ("p01", "p25")]
    scores = score(pairs)
    assert [(j.id, j.found) for j in scores.pairs] == [("p01", "dose"), ("p25", "")]
    assert (scores.recall.hits, scores.recall.n) == (1, 1)
    assert (scores.alarms.hits, scores.alarms.n) == (0, 1)
