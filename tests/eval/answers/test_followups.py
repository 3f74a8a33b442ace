from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from siloquy.errors import SettingsError
from siloquy.eval.answers import followups
from siloquy.eval.answers.compounds import dealt
from siloquy.eval.answers.followups import FORMS, Report
from siloquy.eval.answers.written import HOSPITALS, K, present, records
from siloquy.serve import demo

SWITCHES_LEAST = 8


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("followups")
    cache = folder / "embeddings.sqlite"
    return followups.run(None, folder / "out", cache=cache), folder / "out"


def test_the_written_questions_are_enough_and_well_formed() -> None:
    written = records("followups")
    assert len({record["id"] for record in written}) == len(written)
    halves = Counter(record["half"] for record in written)
    assert halves["test"] >= 50
    assert sum(record["kind"] == "switch" for record in written) >= SWITCHES_LEAST
    compound = records("compound_questions")
    assert sum(bool(record["parts"]) for record in compound) >= 30
    assert sum(not record["parts"] for record in compound) >= 30


def test_every_gold_document_of_the_hospitals_is_there() -> None:
    named = [
        name
        for record in records("followups")
        if record["corpus"] == HOSPITALS
        for name in record["documents"]
    ]
    named += [
        n for record in records("compound_questions") for part in record["parts"] for n in part
    ]
    assert named
    assert all((demo.HOSPITALS / name).is_file() for name in named)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_hospitals_alone_give_a_whole_report(report: tuple[Report, Path]) -> None:
    found, _ = report
    assert found.absent == ("medquad9", "mediqa_sites")
    assert {row.corpus for row in found.rows} == {HOSPITALS}
    whole = next(item for item in found.summary if item.group == "test")
    assert whole.questions == sum(row.half == "test" for row in found.rows)
    assert whole.of_standalone >= 0.95
    assert whole.switches_rewritten == 0
    assert whole.recall["bare"].mean < whole.recall["rewritten"].mean


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_compound_questions_find_no_less_in_parts(report: tuple[Report, Path]) -> None:
    found, _ = report
    for item in found.compound:
        assert item.decomposed.mean >= item.whole.mean
        assert item.singles_taken_apart == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_files_hold_figures_and_no_question(report: tuple[Report, Path]) -> None:
    found, out = report
    rows = [json.loads(line) for line in (out / "followups.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [row.id for row in found.rows]
    assert all(set(row["recall"]) == set(FORMS) for row in rows)
    written = "".join(path.read_text() for path in out.iterdir())
    assert not any(record["follow_up"] in written for record in records("followups"))


def test_an_unknown_question_of_a_set_is_named(tmp_path: Path) -> None:
    corpus = tmp_path / "mediqa_sites"
    (corpus / "qrels").mkdir(parents=True)
    (corpus / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "What?"}))
    (corpus / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    assert present(tmp_path) == {"mediqa_sites": corpus}
    with pytest.raises(SettingsError, match=r"mediqa_sites has no question 'alexa-\d+'"):
        followups.load("mediqa_sites", corpus)


def test_ten_documents_are_dealt_in_turn_and_none_twice() -> None:
    first, second = [f"a{i}" for i in range(K)], ["a0", *(f"b{i}" for i in range(K))]
    assert dealt([first, second]) == ["a0", "a1", "b0", "a2", "b1", "a3", "b2", "a4", "b3", "a5"]
    assert dealt([first]) == first
