from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siloquy.cli.bench_sealed import numbers
from siloquy.errors import UsageError
from siloquy.eval import beir
from siloquy.eval.beir import EvalQuestion
from siloquy.eval.sealed import report as sealed_report
from siloquy.eval.sealed import summary as sealed_summary
from siloquy.eval.sealed.context import SealedConfig
from siloquy.eval.sealed.embeddings import OpenedScores, RecallRow, Shelves, open_all, recall
from siloquy.eval.sealed.federation import OPEN, SEALED_TWICE, FederationRow, source_sizes, subset
from siloquy.eval.sealed.run import run
from siloquy.eval.sealed.scoring import (
    Figure,
    ScoringPoint,
    float_integers,
    integer_scores,
    kept,
    synthetic,
)
from siloquy.eval.sealed.tenseal_baselines import CkksSession, PolynomialFiles, most_columns
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire
from siloquy.sealed.scoring import SecretKey, Zeros
from siloquy.types import NodeId
from tests.eval.wards import QUESTIONS, WARDS, write_corpus

pytest.importorskip("tenseal")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- scoring --------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_every_figure_of_scoring_follows_from_its_rows(tmp_path: Path) -> None:
    out = tmp_path / "out"
    results = run(SealedConfig(out, n=(300,), d=(64,), queries=20), lambda text: None)
    (point,) = results["scoring"]
    assert json.loads((out / "results.json").read_text()) == results
    figures = [Figure(**row) for row in rows_of(out / "scoring.jsonl")]
    assert sealed_summary.scoring(figures, 0) == results["scoring"]
    assert (point["scores_wrong"], point["blocks"]) == (0, 2)
    assert point["scores_compared"] == 8 * 300 + 2 * 7 * 512
    assert point["up_bytes"] == wire.query_bytes(64)
    assert point["down_bytes"] == 2 * wire.BLOCK_BYTES
    assert point["error_most"] < 0.002
    assert point["matmul_error"] < 1e-5
    assert point["dot_over_sealed"] > 1
    report = (out / "report.md").read_text()
    assert "| 300 x 64 |" in report
    assert json.loads((out / "manifest.json").read_text())["packages"]["tenseal"]


def test_synthetic_vectors_have_unit_length_and_repeat_with_their_seed() -> None:
    rows, questions = synthetic(ScoringPoint(50, 16, 3, 7))
    assert (rows.shape, questions.shape) == ((50, 16), (3, 16))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1)
    assert np.array_equal(rows, synthetic(ScoringPoint(50, 16, 3, 7))[0])
    assert not np.array_equal(rows, synthetic(ScoringPoint(50, 16, 3, 8))[0])


def test_integers_by_way_of_floats_are_the_same_integers() -> None:
    rows, questions = synthetic(ScoringPoint(500, 768, 1, 0))
    levels = wire.rounded(rows, wire.ROW_SCALE)
    query = wire.rounded(questions[0], wire.MOST_SCALE)
    by_floats = float_integers(levels.astype(np.float32), query)
    assert np.array_equal(by_floats.astype(np.int64), integer_scores(levels, query))


def test_a_copy_of_a_kept_row_counts_as_the_row() -> None:
    cosines = np.array([0.9, 0.5, 0.5, 0.1])
    assert kept(np.array([4.0, 1.0, 3.0, 2.0]), cosines, 2) == 1.0
    assert kept(np.array([1.0, 2.0, 3.0, 4.0]), cosines, 2) == 0.5
    assert kept(cosines, cosines, 10) == 1.0


# -- baselines ------------------------------------------------------------------------------------


def test_baselines_score_what_floats_score() -> None:
    rows, questions = synthetic(ScoringPoint(20, 32, 1, 0))
    session = CkksSession(1)
    query = session.encrypt(questions[0])
    expected = rows @ questions[0]
    dots, product = session.dot(query, rows[:3]), session.matmul(query, rows)
    assert dots.scores == pytest.approx(expected[:3], abs=1e-4)
    assert product.scores == pytest.approx(expected, abs=1e-4)
    assert (len(dots.ms), len(product.ms)) == (3, 1)


def test_no_column_fits_beside_as_many_numbers_as_slots() -> None:
    assert most_columns(4096) == most_columns(5000) == 0


def test_a_block_read_from_files_scores_as_the_one_that_was_written(tmp_path: Path) -> None:
    rows, questions = synthetic(ScoringPoint(wire.BLOCK_ROWS, 16, 1, 0))
    block = sealed.prepare(wire.rounded(rows, wire.ROW_SCALE))
    files = PolynomialFiles(tmp_path)
    assert files.save(block) == sum(path.stat().st_size for path in tmp_path.iterdir())
    secret = SecretKey()
    query = sealed.seal_query(questions[0], secret.public)
    opened = sealed.open_query(query.query, 16)
    zeros = Zeros(secret.public)
    written, read = (
        secret.open_scores(sealed.score(opened, [item], zeros, query.offset))
        for item in (block, files.load([0, 1]))
    )
    assert np.array_equal(written, read)


# -- embeddings -----------------------------------------------------------------------------------


def test_silos_are_scored_exactly_and_merged_without_loss() -> None:
    rows, questions = synthetic(ScoringPoint(90, 32, 4, 0))
    shelves = Shelves(
        (NodeId("north"), NodeId("south")),
        (rows[:60], rows[60:]),
        tuple(EvalQuestion(f"q{i}", "") for i in range(4)),
        questions,
    )
    recalled = recall(shelves, np.random.default_rng(0))
    opened = open_all(shelves, np.array([0, 2]), lambda text: None)
    assert [(o.id, o.silo, o.compared, o.wrong) for o in opened] == [
        (q, silo, n, 0) for silo, n in (("north", 60), ("south", 30)) for q in ("q0", "q2")
    ]
    assert all(item.whole == item.federation for item in recalled)
    summary = sealed_summary.embeddings(recalled, opened, 0)
    assert (summary["passages"], summary["scores_compared"]) == (90, 180)
    assert summary["recall@10_whole"]["mean"] > 0.9
    text = "\n".join(sealed_report.embeddings("corpus", summary))
    assert "4 questions, 90 passages of 2 silos" in text


# -- federation -----------------------------------------------------------------------------------


def asked(setting: str, question: str, ndcg: float, total: float, **other: Any) -> FederationRow:
    timings = {"embed": 5.0, "search": total - 15.0, "rescore": 10.0, "total": total}
    traffic = {"requests": 100, "replies": 50}
    row = FederationRow(2, "retrieve", setting, question, total + 1, ("a",), 10, ndcg=ndcg)
    return replace(row, timings_ms=timings, traffic=traffic, **other)


def test_sealed_is_set_against_open_question_by_question() -> None:
    rows = [asked(OPEN.name, f"q{i}", 0.5, 100.0) for i in range(3)]
    rows += [asked(SEALED_TWICE.name, f"q{i}", 0.4, 200.0, released=20) for i in range(3)]
    rows += [
        replace(rows[-1], api="ask", id="q0"),
        FederationRow(2, "ask", OPEN.name, "q9", 0.0, error="x"),
    ]
    plain, closed = sealed_summary.federation(rows, 0)
    assert closed["ndcg@10_minus_open"] == {"mean": -0.1, "low": -0.1, "high": -0.1}
    assert (plain["released_mean"], closed["released_mean"]) == (10.0, 20.0)
    assert closed["without_rescoring_ms"]["p50"] == 190.0
    assert closed["bytes_by_link"] == {"requests": 100.0, "replies": 50.0}
    assert closed["answers"]["ms"]["total"]["p50"] == 200.0
    assert (plain["failed"], "answers" in plain) == (1, False)
    text = "\n".join(sealed_report.federation("corpus", [plain, closed]))
    assert "-0.1000 [-0.1000, -0.1000]" in text


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """North holds two documents, the others one."""
    wards = {name: texts if name == "north" else texts[:1] for name, texts in WARDS.items()}
    return write_corpus(tmp_path_factory.mktemp("corpus"), wards)


def test_the_largest_sources_are_kept_with_what_is_judged_of_them(
    corpus: Path, tmp_path: Path
) -> None:
    assert source_sizes(corpus) == {"north": 2, "south": 1, "west": 1}
    part = subset(corpus, ["north", "south"], "test", tmp_path)
    assert source_sizes(part) == {"north": 2, "south": 1}
    judged = beir.load(part, "test", None, 0)
    assert [question.id for question in judged.questions] == ["q1", "q2", "q4"]


@pytest.mark.end_to_end
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_federation_answers_sealed_as_it_answers_open(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    parts = ("embeddings", "federation")
    config = SealedConfig(out, corpus, parts, silos=(2,), cache=tmp_path / "cache.sqlite")
    results = run(config, lambda text: None)
    assert results["embeddings"]["scores_wrong"] == 0
    rows = [FederationRow(**row) for row in rows_of(out / "federation.jsonl")]
    assert sealed_summary.federation(rows, 0) == results["federation"]
    recalled = [RecallRow(**row) for row in rows_of(out / "embeddings.jsonl")]
    opened = [OpenedScores(**row) for row in rows_of(out / "opened.jsonl")]
    assert sealed_summary.embeddings(recalled, opened, 0) == results["embeddings"]
    assert [(g["setting"], g["ndcg@10"]["mean"]) for g in results["federation"]] == [
        ("open", 1.0),
        ("sealed, 2k", 1.0),
        ("sealed, k", 1.0),
    ]
    assert {g["missing"] + g["failed"] for g in results["federation"]} == {0}
    written = "".join(path.read_text() for path in out.iterdir() if path.suffix != ".png")
    assert not any(text in written for text, _ in QUESTIONS.values())


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"n": (0,)}, "--n is 0"),
        ({"n": (1_000_000,)}, "1 to 425,984"),
        ({"d": (4_000,)}, "--d is 4000"),
        ({"silos": (0,)}, "--silos"),
        ({"parts": ("federation",)}, "needs a corpus"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, other: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run(SealedConfig(tmp_path / "out", **other), lambda text: None)
    assert not (tmp_path / "out").exists()


def test_more_silos_than_there_are_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has 3 silos, 18 were wanted") as raised:
        run(SealedConfig(tmp_path / "out", corpus), lambda text: None)
    assert raised.value.hint == "give --silos 3"


def test_results_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UsageError, match="not empty"):
        run(SealedConfig(tmp_path), lambda text: None)


def test_numbers_are_read_with_commas_and_nothing_else() -> None:
    assert numbers("n", "5,10,5") == (5, 10)
    with pytest.raises(UsageError, match="--silos is '1;2'"):
        numbers("silos", "1;2")
