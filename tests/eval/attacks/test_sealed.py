"""Score tables of real encrypted questions, and what they rebuild with and without repacking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from siloquy.eval.attacks.sealed import (
    cosines,
    features,
    masked_scores,
    on_passages,
    told_apart,
    track,
    vectors_from_scores,
    vectors_from_unknown_queries,
)
from siloquy.eval.sealed import report as sealed_report
from siloquy.sealed import scoring as sealed
from siloquy.silo_node import sealed_index
from siloquy.silo_node.sealed_index import SealedIndex
from tests.silo_node.hospital import unit

pytest.importorskip("tenseal")

D, ROWS, KNOWN = 32, 200, 60
QUESTIONS = 40


@dataclass(frozen=True)
class Tables:
    """What came of real sealed questions to one silo.

    scores    (m, rows) masked, as the hub opens them, in the order of each reply
    unmasked  (m, rows) the same to who knows the masks
    queries   (m, d)
    numbers   (m, rows) which passage each score is of, 0 for padding
    """

    scores: NDArray[np.float64]
    unmasked: NDArray[np.float64]
    queries: NDArray[np.float64]
    numbers: NDArray[np.int64]


def opened_tables(monkeypatch: pytest.MonkeyPatch, uses: int) -> Tables:
    monkeypatch.setattr(sealed_index, "SMALL_USES", uses)
    index = SealedIndex(D)
    index.follow(np.zeros(0, dtype=np.int64), np.arange(1, ROWS + 1), unit(ROWS, seed=1, d=D))
    secret, queries = sealed.SecretKey(), unit(QUESTIONS, seed=2, d=D)
    scores, unmasked, numbers = [], [], []
    for vector in queries:
        asked = sealed.seal_query(vector, secret.public)
        reply, placed = index.score(asked.query, asked.offset, secret.public)
        scores.append(secret.open_scores(reply.scores).astype(np.float64))
        unmasked.append((scores[-1] - asked.offset) / asked.scale)
        numbers.append(placed.numbers[placed.order].ravel())
    return Tables(
        np.array(scores), np.array(unmasked), queries.astype(np.float64), np.array(numbers)
    )


def rebuilt_by_the_hub(tables: Tables) -> NDArray[np.float64]:
    """Cosine to the truth of each row that the hub did not know; places taken as in the first."""
    true = unit(ROWS, seed=1, d=D).astype(np.float64)
    real = np.flatnonzero(tables.numbers[0])
    order = tables.numbers[0][real] - 1
    known, scores = true[order[:KNOWN]], tables.scores[:, real]
    found = vectors_from_unknown_queries(scores, known, range(KNOWN))
    return cosines(found[KNOWN:], true[order[KNOWN:]])


def test_repacking_keeps_a_hub_from_rebuilding_rows_and_without_it_they_are_rebuilt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = opened_tables(monkeypatch, uses=1)
    assert len(np.unique(tables.numbers, axis=0)) == QUESTIONS
    assert abs(rebuilt_by_the_hub(tables).mean()) < 0.2
    tables = opened_tables(monkeypatch, uses=10**6)
    assert len(np.unique(tables.numbers, axis=0)) == 1
    assert rebuilt_by_the_hub(tables).mean() > 0.99


def test_who_held_the_key_and_the_questions_would_rebuild_every_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = opened_tables(monkeypatch, uses=10**6)
    real = tables.numbers[0] > 0
    true = unit(ROWS, seed=1, d=D)[tables.numbers[0][real] - 1].astype(np.float64)
    found = vectors_from_scores(tables.queries, tables.unmasked[:, real])
    assert cosines(found, true).min() > 0.99


def test_the_track_says_that_one_question_tells_the_hub_nothing_and_d_tell_it_all() -> None:
    found = track(unit(500, seed=5, d=D), unit(384, seed=6, d=D), seed=0)
    hub = {(r["questions"], r["known_rows"]): r for r in found if r["attack"] == "hub"}
    assert hub[1, 400]["mean_cosine"] < hub[1, 400]["guess"] + 0.25
    assert hub[384, 400]["mean_cosine"] > 0.95
    custody = {(r["questions"], r["repacked"]): r for r in found if r["attack"] == "custody"}
    assert custody[384, False]["mean_cosine"] > 0.999
    assert abs(custody[384, True]["mean_cosine"]) < 0.2


def test_the_report_shows_what_was_rebuilt() -> None:
    found = on_passages(unit(900, seed=9, d=D), seed=0)
    text = "\n".join(sealed_report.attacks("corpus", found))
    assert "| 384 |" in text
    assert "| in stable places, the control |" in text
    assert "nan" not in text


def test_the_masks_of_two_questions_differ() -> None:
    rows, same = unit(50, seed=7, d=D), np.repeat(unit(1, seed=8, d=D), 2, axis=0)
    first, second = masked_scores(same, rows, np.random.default_rng(0))
    assert not np.array_equal(first, second)
    assert np.corrcoef(first, second)[0, 1] > 0.999


def test_a_classifier_tells_marked_messages_apart_and_random_ones_not() -> None:
    generator = np.random.default_rng(0)
    plain = np.array([features([generator.bytes(4000)]) for _ in range(40)])
    marked = np.array([features([b"A" * 200 + generator.bytes(3800)]) for _ in range(20)])
    assert told_apart(plain[:20], marked) == 1.0
    assert 0.2 < told_apart(plain[:20], plain[20:]) < 0.8
