"""Answers against gold: counts of one answer, who is withheld what, curves, and the report."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from siloquy import cli
from siloquy.cli import bench_answers
from siloquy.errors import UsageError
from siloquy.eval import beir
from siloquy.eval.answers import abstention, gold, withheld
from siloquy.eval.answers import report as answer_report
from siloquy.eval.answers.context import AnswersConfig, AnswersContext
from siloquy.eval.answers.gold import AnswerCounts, GoldCase
from siloquy.eval.answers.report import AnswerRow, summarise
from siloquy.eval.answers.run import run
from siloquy.eval.answers.tracks import TRACKS

TEXT = "Galcanezumab is an antibody against calcitonin gene-related peptide. It prevents migraine."
OTHER = "Erenumab blocks the receptor of calcitonin gene-related peptide in adults."
CASE = GoldCase(
    "q1",
    "What is the target of galcanezumab?",
    "factoid",
    frozenset({"d1"}),
    exact=(("calcitonin gene-related peptide", "CGRP"), ("migraine",)),
    ideal="Galcanezumab is directed against the calcitonin gene-related peptide ligand.",
)


def source(n: int, document: str, text: str) -> dict[str, Any]:
    place = {"silo": "north", "title": "", "start": 0, "end": len(text), "score": 0.8}
    return {"n": n, "document": document, "text": text, **place}


def sentence(text: str, n: int, whole: str) -> dict[str, Any]:
    start = max(whole.find(text), 0)
    spans = [{"n": n, "start": start, "end": start + len(text)}]
    return {"text": text, "citations": [n], "support": 1.0, "spans": spans}


FIRST = "Galcanezumab is an antibody against calcitonin gene-related peptide."
ANSWER = {
    "sources": [source(1, "d1", TEXT), source(2, "d2", OTHER)],
    "sentences": [sentence(FIRST, 1, TEXT), sentence(OTHER, 2, OTHER)],
}


# -- one answer -----------------------------------------------------------------------------------


def test_citations_items_and_words_of_an_answer_are_counted() -> None:
    measured = gold.measure(ANSWER, CASE, {"d1": TEXT})
    assert (measured.sentences, measured.citations, measured.resolved) == (2, 2, 2)
    assert (measured.cited_gold, measured.gold_sentences, measured.carried) == (1, 1, 2)
    assert (measured.items, measured.found) == (2, 1)
    assert measured.said == 1
    assert 0 < measured.ideal_found < measured.ideal_words
    assert (measured.stated, measured.right) == ("", False)


def test_a_citation_outside_the_released_text_does_not_resolve() -> None:
    beyond = sentence(FIRST, 1, TEXT)
    beyond["spans"] = [{"n": 1, "start": 0, "end": len(TEXT) + 1}]
    unknown = {**sentence(FIRST, 1, TEXT), "citations": [7]}
    answer = {**ANSWER, "sentences": [beyond, unknown]}
    measured = gold.measure(answer, CASE, {"d1": TEXT})
    assert (measured.citations, measured.resolved, measured.carried) == (2, 0, 1)


def test_a_sentence_that_its_passage_contradicts_is_not_carried() -> None:
    wrong = sentence("Galcanezumab is not an antibody against the peptide.", 1, TEXT)
    assert gold.measure({**ANSWER, "sentences": [wrong]}, CASE, {}).carried == 0


def test_an_abstention_counts_nothing_but_what_was_to_be_found() -> None:
    measured = gold.measure({"sources": [], "sentences": []}, CASE, {"d1": TEXT})
    assert measured == AnswerCounts(items=2, ideal_words=measured.ideal_words)


@pytest.mark.parametrize(
    ("told", "stated", "right"),
    [("Yes, it does.", "yes", True), ("No.", "no", False), ("It may: yes.", "", False)],
)
def test_a_verdict_counts_only_where_the_answer_begins_with_it(
    told: str, stated: str, right: bool
) -> None:
    answer = {**ANSWER, "sentences": [sentence(told, 1, TEXT)]}
    measured = gold.measure(answer, replace(CASE, verdict="yes"), {})
    assert (measured.stated, measured.right) == (stated, right)


def test_items_are_found_as_whole_words() -> None:
    assert gold.named([("PTEN",)], "The PTENP1 pseudogene") == 0
    assert gold.named([("PTEN",), ("...",)], "the pten gene") == 1


def test_what_still_states_the_answer_is_seen_and_what_does_not_is_not() -> None:
    assert gold.remains(CASE, ["Galcanezumab binds CGRP."])
    assert not gold.remains(CASE, ["Parking is free. CGRP is a peptide, too."])
    prose = replace(CASE, exact=(), ideal=f"{TEXT} It is given once a month under the skin.")
    assert gold.remains(prose, [prose.ideal])
    assert not gold.remains(prose, [OTHER])
    assert not gold.remains(CASE, [])


def test_a_passage_that_repeats_a_relevant_document_is_seen() -> None:
    assert gold.repeats([f"Reprinted: {TEXT}"], [TEXT])
    assert not gold.repeats([OTHER], [TEXT])
    assert not gold.repeats(["short"], ["short"])


# -- withholding ----------------------------------------------------------------------------------

documents = st.frozensets(st.sampled_from("abcdefgh"), min_size=1, max_size=3)
dealt = st.lists(documents, min_size=1, max_size=12).map(
    lambda sets: [GoldCase(f"q{i}", "?", "g", found) for i, found in enumerate(sets)]
)


@given(dealt, st.integers(0, 5))
def test_the_withheld_lose_all_and_the_kept_nothing(cases: list[GoldCase], seed: int) -> None:
    deal = withheld.deal(cases, seed)
    assert deal == withheld.deal(cases, seed)
    lost = {case.id: case.relevant & deal.documents for case in cases}
    for case in cases:
        condition = deal.conditions[case.id]
        assert (lost[case.id] == case.relevant) or condition != "withheld"
        assert (not lost[case.id]) == (condition == "kept")
    assert list(deal.conditions.values()).count("withheld") == len(cases) // 2


def test_a_corpus_is_written_without_what_is_withheld(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    lines = [json.dumps({"_id": name, "text": name, "source": "s"}) for name in ("a", "b", "c")]
    (corpus / "corpus.jsonl").write_text("\n".join(lines))
    left = withheld.write_without(corpus, frozenset({"b"}), tmp_path / "left")
    assert [record["_id"] for record in beir.records(left)] == ["a", "c"]


def test_the_hospitals_become_a_corpus_that_holds_every_gold_document(tmp_path: Path) -> None:
    corpus = withheld.write_hospitals(tmp_path)
    cases = gold.load(corpus, "test", None, 0)
    held = {record["_id"] for record in beir.records(corpus)}
    assert len(cases) >= 25
    assert all(case.relevant <= held and case.ideal for case in cases)


# -- curves ---------------------------------------------------------------------------------------

values = st.lists(st.floats(0, 2).map(lambda x: round(x, 2)), min_size=1, max_size=30)


@given(values, values)
def test_a_curve_rises_and_its_area_counts_pairs(kept: list[float], gone: list[float]) -> None:
    found = abstention.curve(kept, gone)
    for before, after in zip(found.points, found.points[1:], strict=False):
        assert before.withheld <= after.withheld
        assert before.kept <= after.kept
    assert (found.points[-1].withheld, found.points[-1].kept) == (1.0, 1.0)
    assert found.at_most.kept <= abstention.MOST_FALSE
    wins = sum((a > b) + (a == b) / 2 for a in kept for b in gone)
    assert found.area == pytest.approx(wins / len(kept) / len(gone), abs=1e-4)


# -- the report -----------------------------------------------------------------------------------


def rows() -> list[AnswerRow]:
    made = []
    for i in range(12):
        kept = i % 2 == 0
        row = AnswerRow("withheld", "quotes", f"q{i}", "yesno" if i < 6 else "list")
        row = replace(row, condition="kept" if kept else "withheld", held_out=i != 0)
        made.append(replace(row, evidence=0.9 + 0.1 * kept + 0.01 * i, abstained=i in (1, 3, 4)))
        counted = AnswerCounts(2, 2, 2, i % 3, i % 2, 1, 2, 3, i % 4, 10, i % 11, "yes", i < 3)
        made.append(
            AnswerRow("gold", "quotes", f"q{i}", row.group, measured=counted, total_ms=5.0 + i)
        )
    return made


def test_figures_are_what_the_rows_add_up_to() -> None:
    results = summarise(rows(), 0)
    figures = results["gold"]["quotes"]["all"]
    assert figures["support_precision_gold_says_it"]["mean"] == 0.5
    assert figures["citations_that_resolve"]["mean"] == 1.0
    recall = figures["support_recall_exact_items"]
    assert recall["mean"] == 0.5
    assert recall["low"] < 0.5 < recall["high"]
    assert figures["verdict_right"]["hits"] == 3
    assert (figures["verdict_right"]["n"], figures["verdict_not_stated"]) == (6, 0)
    decided = results["withheld"]["quotes"]["all"]
    assert (decided["decided_on_withheld"]["hits"], decided["decided_on_withheld"]["n"]) == (2, 6)
    assert decided["false_abstentions"]["hits"] == 1
    assert decided["curve_all"]["area"] > decided["curve_held_out"]["area"] - 0.2
    assert set(results["gold"]["quotes"]) == {"all", "list", "yesno"}


def test_failed_and_partly_withheld_questions_count_in_neither_share() -> None:
    extra = [replace(row, error="timeout: x") for row in rows() if row.track == "withheld"]
    partly = [replace(row, condition="partly", error="") for row in extra]
    before = summarise(rows(), 0)["withheld"]["quotes"]["all"]
    after = summarise([*rows(), *extra, *partly], 0)["withheld"]["quotes"]["all"]
    assert (after.pop("failed"), after.pop("partly")) == (12, 12)
    assert after == {name: item for name, item in before.items() if name in after}


def test_rows_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "per_query.jsonl"
    path.write_text("\n".join(json.dumps(asdict(row)) for row in rows()))
    assert answer_report.load(path) == rows()


def test_curves_are_written_as_numbers_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curves = answer_report.curves(rows())
    abstention.write_csv(curves, tmp_path / "curve.csv")
    abstention.draw(curves, tmp_path / "curve.svg")
    with (tmp_path / "curve.csv").open() as file:
        written = list(csv.DictReader(file))
    assert {row["curve"] for row in written} == set(curves)
    assert len(written) == sum(len(curve.points) for curve in curves.values())
    assert (tmp_path / "curve.svg").read_text().count("<svg") == 1


def test_results_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UsageError, match="not empty"):
        run(AnswersConfig(None, tmp_path, ("sweep",)), lambda text: None)


def test_the_options_name_the_back_ends_that_are_compared() -> None:
    assert [model.kind for model in bench_answers.models("", "", "", "")] == ["extractive"]
    endpoint = bench_answers.models("http://127.0.0.1:9/v1", "m", "key", "")
    assert [model.kind for model in endpoint] == ["extractive", "endpoint"]
    local = bench_answers.models("", "folder", "", "lora")
    assert [model.kind for model in local] == ["extractive", "transformers"]
    assert (local[1].name, local[1].adapter) == ("folder", "lora")
    assert endpoint[1].fallback == local[1].fallback == "none"


def test_an_unknown_track_is_refused_with_those_there_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["bench", "answers", "--out", str(tmp_path / "out"), "--track", "golden", "--json"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code != 0
    assert json.loads(result.stdout)["error"]["message"] == "there is no track 'golden'"
    assert not (tmp_path / "out").exists()


def test_the_conflict_track_s_figures_follow_from_its_rows(tmp_path: Path) -> None:
    config = AnswersConfig(None, tmp_path, ("conflicts",), cache=tmp_path / "cache.sqlite")
    told: list[str] = []
    context = AnswersContext(config, tmp_path, tmp_path, io.StringIO(), told.append)
    found = TRACKS["conflicts"].run(context)["conflicts"]
    lines = (tmp_path / "conflicts.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    true = [row for row in rows if row["conflict"]]
    assert (told, len(rows)) == (["conflicts"], found["pairs"])
    assert (found["recall"]["hits"], found["recall"]["n"]) == (
        sum(bool(row["found"]) for row in true),
        len(true),
    )


# -- the running federation -----------------------------------------------------------------------

WARDS = {
    "north": ["Asthma attacks are treated with salbutamol.", "Croup responds to dexamethasone."],
    "south": ["Sepsis needs antibiotics within one hour.", "Cellulitis is treated for seven days."],
}
QUESTIONS = {
    "q1": ("How are asthma attacks treated?", "north-0", "salbutamol"),
    "q2": ("When does sepsis need antibiotics?", "south-0", "one hour"),
    "q3": ("What does croup respond to?", "north-1", "dexamethasone"),
    "q4": ("For how many days is cellulitis treated?", "south-1", "seven days"),
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "wards"
    (folder / "qrels").mkdir(parents=True)
    records = [
        {"_id": f"{ward}-{i}", "title": "", "text": text, "source": ward}
        for ward, told in WARDS.items()
        for i, text in enumerate(told)
    ]
    asked = [{"_id": name, "text": text} for name, (text, _, _) in QUESTIONS.items()]
    answers = [
        {"_id": name, "type": "factoid", "exact_answer": [[exact]], "ideal_answer": ""}
        for name, (_, _, exact) in QUESTIONS.items()
    ]
    rows = [f"{name}\t{document}\t1" for name, (_, document, _) in QUESTIONS.items()]
    for path, lines in (("corpus.jsonl", records), ("queries.jsonl", asked), (gold.GOLD, answers)):
        (folder / path).write_text("\n".join(json.dumps(line) for line in lines))
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    return folder


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.timeout(600)
def test_a_run_over_real_processes_can_be_recomputed_from_its_rows(
    corpus: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    tracks = ("gold", "withheld", "sweep")
    config = AnswersConfig(corpus, out, tracks, cache=tmp_path / "cache.sqlite")
    results = run(config, lambda text: None)
    rows = answer_report.load(out / "per_query.jsonl")
    assert summarise(rows, 0) == results == json.loads((out / "results.json").read_text())
    answered = next(iter(results["gold"].values()))["all"]
    assert answered["failed"] == 0
    assert answered["exact_hit"]["hits"] == answered["answered"]["hits"] >= 3
    gone = [row for row in rows if row.condition == "withheld"]
    assert gone
    assert not any(row.found_relevant for row in gone)
    assert all(row.found_relevant for row in rows if row.condition == "kept")
    assert json.loads((out / "manifest.json").read_text())["data_sha256"]
    written = "".join(p.read_text() for p in out.iterdir() if p.suffix in (".json", ".jsonl"))
    assert not any(text in written for text, _, _ in QUESTIONS.values())
    assert not any(exact in written for _, _, exact in QUESTIONS.values())
